"""What is installed is the wheel, not the checkout: it must hold everything, migrations too, and run by itself.

The wheel is installed into a fresh virtual environment that borrows its dependencies from the one the tests run in.
That the declared dependencies are complete is shown by the image (tests/lab/test_compose.py), which has no others.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
READY_LIMIT_S = 60.0  # guards against a hang alone
STOP_LIMIT_S = 30.0


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", target, ROOT, cwd=target)
    (path,) = target.glob("*.whl")
    return path


class Installed:
    """The wheel in an environment of its own, with a home and a folder below `root`."""

    def __init__(self, wheel: Path, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.bin = root / "venv" / "bin"
        # Neither the checkout nor the settings of another replicad may be found.
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "REPLICAD_"))
        } | {"REPLICAD_HOME": str(self.home)}
        run(sys.executable, "-m", "venv", "--without-pip", root / "venv", cwd=root)
        run(
            sys.executable, "-m", "pip", "--python", self.bin / "python", "install", "--no-deps", "--no-index", wheel,
            cwd=root, env=self.env,
        )  # fmt: skip
        site = Path(self.python("import sysconfig; print(sysconfig.get_path('purelib'))"))
        # A .pth file in a directory that a .pth file names is not read: the editable replicad there stays out of sight.
        (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    def python(self, program: str) -> str:
        return run(self.bin / "python", "-c", program, cwd=self.root, env=self.env).strip()

    def replicad(self, *arguments: str | Path) -> str:
        return run(self.bin / "replicad", *arguments, cwd=self.root, env=self.env)

    @contextlib.contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """`replicad run`, from the moment it says that it is ready."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (self.root / "log").open("w+b") as log:
            notify.bind(str(self.root / "notify"))
            env = self.env | {"NOTIFY_SOCKET": str(self.root / "notify")}
            process = subprocess.Popen(
                [self.bin / "replicad", "run"], cwd=self.root, env=env, stdin=subprocess.DEVNULL, stderr=log
            )
            try:
                wait_until_ready(notify, process)
                yield process
            except BaseException as error:
                log.seek(0)
                error.add_note(log.read().decode("utf-8", "backslashreplace"))
                raise
            finally:
                process.kill()
                process.wait()


def wait_until_ready(notify: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """By sd_notify's message, or at once when the daemon ends instead."""
    ended = os.pidfd_open(process.pid)
    try:
        while True:
            happened, _, _ = select.select([notify.fileno(), ended], [], [], READY_LIMIT_S)
            assert notify.fileno() in happened, f"the daemon {'ended' if happened else 'is not ready'}"
            if b"READY=1" in notify.recv(4096).split(b"\n"):
                return
    finally:
        os.close(ended)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_wheel_holds_the_package_and_the_migrations_and_nothing_else(wheel: Path) -> None:
    def files_below(directory: Path) -> set[str]:
        found = (path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {str(path.relative_to(directory)) for path in found}

    # In a checkout the migrations lie at the top.
    expected = {f"replicad/{name}" for name in files_below(ROOT / "replicad")}
    expected |= {f"replicad/migrations/{name}" for name in files_below(ROOT / "migrations")}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert any(name.startswith("replicad/migrations/versions/") for name in expected)
    assert held == expected


def test_what_runs_comes_from_the_wheel(installed: Installed) -> None:
    package = Path(installed.python("import replicad; print(replicad.__file__)")).parent
    assert package.is_relative_to(installed.root / "venv")


def test_a_daemon_from_the_wheel_becomes_ready_and_migrates_its_catalogs(installed: Installed) -> None:
    api = f"127.0.0.1:{free_port()}"
    folder = installed.root / "docs"
    folder.mkdir()
    (folder / "file").write_text("content")
    installed.replicad("init", "--name", "solo", "--listen", f"127.0.0.1:{free_port()}", "--api", api)
    installed.replicad("folder", "create", "docs", folder)
    with installed.daemon() as process:
        installed.replicad("wait", "--members", "1")
        with urllib.request.urlopen(f"http://{api}/readyz", timeout=10) as response:
            assert response.status == 200
        status = json.loads(installed.replicad("status", "--json"))
        assert status["member"]["name"] == "solo"
        assert [row["objects"] for row in status["folders"]] == [1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_LIMIT_S) == 0
    newest = installed.python(
        "import pathlib, replicad; print((pathlib.Path(replicad.__file__).parent / 'migrations/NEWEST').read_text())"
    )
    catalogs = sorted((installed.home / "catalog").glob("*.db"))
    assert len(catalogs) == 2  # the hierarchy's and the folder's
    for catalog in catalogs:
        with contextlib.closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest,)]
