# replicad in a container. The home (identity, catalog) and the folder are volumes; see docker-compose.yml.
#
# A package index other than pip's default is passed by build arguments, which stay out of the final image:
#   docker build --build-arg PIP_INDEX_URL=… -t replicad .

FROM python:3.11-slim-bookworm AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
WORKDIR /src
# Without pip: the final image holds what replicad needs to run, and nothing to install more with.
RUN python -m venv --without-pip /opt/replicad
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m pip --python /opt/replicad/bin/python install --disable-pip-version-check .

FROM python:3.11-slim-bookworm
RUN groupadd --system --gid 7722 replicad \
    && useradd --system --uid 7722 --gid replicad --home-dir /var/lib/replicad --shell /usr/sbin/nologin replicad \
    && install -d -m 700 -o replicad -g replicad /var/lib/replicad \
    && install -d -m 755 -o replicad -g replicad /data
COPY --from=build /opt/replicad /opt/replicad
ENV PATH=/opt/replicad/bin:$PATH PYTHONUNBUFFERED=1 REPLICAD_HOME=/var/lib/replicad
USER replicad
WORKDIR /var/lib/replicad
VOLUME ["/var/lib/replicad", "/data"]
EXPOSE 7722 7723
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7723/healthz', timeout=4)"]
ENTRYPOINT ["replicad"]
CMD ["run"]
