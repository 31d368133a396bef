"""run."""

from __future__ import annotations

from replicad.cli.calling import Options, sources_of


def run(options: Options) -> int:
    from replicad.daemon.run import run as run_daemon

    return run_daemon(sources_of(options))
