"""Real daemons on loopback for system tests: started, stopped, killed, asked; nothing is waited for by sleeping.

A daemon tells by sd_notify that it is up; `replicad wait` tells that changes have arrived; everything else is a
condition on `GET /v1/status` with a deadline (`until`). Ports are the system's, and come back different after a
restart, so members that move are tested all the while.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from replicad.cli.client import request
from replicad.errors import NoDaemonError
from tests.tree_compare import assert_same_trees

START_S = 30.0
STOP_S = 30.0
UNTIL_S = 30.0
"""How long a condition may take to come about on a machine that is busy with other tests."""
LOOK_S = 0.05
ANY_PORT = "127.0.0.1:0"

T = TypeVar("T")


class Failed(AssertionError):
    """A command, or a daemon, did not do what it should."""


def until(what: str, condition: Callable[[], T | None], deadline_s: float = UNTIL_S) -> T:
    """The first value of `condition` that is true; AssertionError, naming `what`, when the time is out."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {deadline_s:g} s: {what}")
        time.sleep(LOOK_S)


class Server:
    """One member: a home, and a daemon while it runs. `settings` are environment variables of the daemon."""

    def __init__(self, base: Path, name: str, settings: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.base = base / name
        self.home = self.base / "home"
        self.log = self.base / "log"
        self.settings = dict(settings or {})
        self.prefix: list[str] = []
        """What stands before each command, as one that enters another host."""
        self.module = "replicad"
        """What the daemon is run from."""
        self.tracer: list[str] = []
        """What the daemon is run under; it must be the process that was started all the same."""
        self.base.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._notices: socket.socket | None = None

    def folder(self, name: str = "docs") -> Path:
        """Where this member keeps a folder."""
        return self.base / name

    # -- the daemon

    def start(self, *arguments: str) -> None:
        """Until it says that it is up."""
        self.begin(*arguments)
        self.await_start()

    def begin(self, *arguments: str) -> None:
        """Without waiting for it; `await_start` does."""
        assert self._process is None, f"{self.name} runs already"
        path = self.base / "notify"
        path.unlink(missing_ok=True)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with _short(path) as short:
            self._notices.bind(short)
            environment = {**_environment(), **self.settings, "NOTIFY_SOCKET": str(path)}
        command = [
            *self.prefix,
            *self.tracer,
            sys.executable,
            "-m",
            self.module,
            "run",
            "--home",
            str(self.home),
            *arguments,
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log, env=environment)

    def await_start(self) -> None:
        assert self._process is not None
        assert self._notices is not None
        self._notices.settimeout(LOOK_S)
        end = time.monotonic() + START_S
        while True:
            try:
                if self._notices.recv(4096).startswith(b"READY=1"):
                    return
            except TimeoutError:
                pass
            if self._process.poll() is not None or time.monotonic() > end:
                raise Failed(f"{self.name} does not start:\n{self.last_words()}")

    def stop(self) -> None:
        """Cleanly; the exit status must be 0."""
        self._signal(signal.SIGTERM)
        status = self._gone()
        if status != 0:
            raise Failed(f"{self.name} ended with {status}:\n{self.last_words()}")

    def kill(self) -> None:
        """kill -9."""
        self._signal(signal.SIGKILL)
        self._gone()

    def wait_for_end(self) -> int:
        """A daemon that ends by itself; its exit status."""
        return self._gone()

    def send_signal(self, number: signal.Signals) -> None:
        self._signal(number)

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def ended(self) -> bool:
        """The daemon was started, and has ended by itself; `wait_for_end` takes note of it."""
        return self._process is not None and self._process.poll() is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} does not run"
        self._process.send_signal(number)

    def _gone(self) -> int:
        assert self._process is not None
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise Failed(f"{self.name} does not end:\n{self.last_words()}") from None
        finally:
            self._process = None
            if self._notices is not None:
                self._notices.close()
                self._notices = None
        return status

    # -- commands and the API

    def run(
        self, *arguments: str, stdin: str | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """A command of the CLI on this home."""
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "replicad", *arguments, "--home", str(self.home)],
            input=stdin,
            capture_output=True,
            text=True,
            env=_environment(),
            timeout=timeout_s,
            check=False,
        )

    def cli(self, *arguments: str, stdin: str | None = None) -> str:
        """Its standard output; the exit status must be 0."""
        done = self.run(*arguments, stdin=stdin)
        if done.returncode != 0:
            words = f"{done.stdout}{done.stderr}\n--- log of {self.name}\n{self.last_words()}"
            raise Failed(f"replicad {' '.join(arguments)} on {self.name}: exit status {done.returncode}\n{words}")
        return done.stdout.strip()

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """The API, over the control socket."""
        return request(self.home, method, path, body)

    def status(self) -> dict[str, Any]:
        shot: dict[str, Any] = self.ask("GET", "/v1/status")
        return shot

    def folder_status(self, name: str = "docs") -> dict[str, Any]:
        return next(folder for folder in self.status()["folders"] if folder["name"] == name)

    def connected(self) -> set[str]:
        """Names of the members to which it has a link."""
        return {member["name"] for member in self.status()["members"] if member["connected"]}

    def until_state(self, state: int = 4, folder: str = "docs") -> None:
        def reached() -> bool:
            try:
                return any(one["name"] == folder and one["state"] == state for one in self.status()["folders"])
            except NoDaemonError:
                return False

        until(f"{self.name}: folder {folder} in state {state}", reached)


class Servers:
    """Several members of one group; whatever still runs is ended by `close`."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.all: list[Server] = []

    def add(self, name: str, settings: Mapping[str, str] | None = None) -> Server:
        server = Server(self.base, name, settings)
        self.all.append(server)
        return server

    def found(self, name: str = "m0", **options: str) -> Server:
        """A founder, running."""
        server = self.add(name)
        server.cli("init", "--name", name, "--group", "demo", *_places(**options))
        server.start()
        return server

    def join(self, inviter: Server, name: str, **options: str) -> Server:
        """One more member, running."""
        server = self.add(name)
        server.cli("join", inviter.cli("invite"), "--name", name, *_places(**options))
        server.start()
        return server

    def group(self, size: int, folder: str = "docs") -> list[Server]:
        """A running group of `size` that all keep one folder, made by the first."""
        first = self.found()
        first.cli("folder", "create", folder, str(first.folder(folder)))
        tokens = json.loads(first.cli("invite", "--uses", str(max(1, size - 1)), "--json"))["token"]
        others = []
        for number in range(1, size):
            server = self.add(f"m{number}")
            server.cli("join", tokens, "--name", server.name, *_places())
            server.cli("folder", "join", folder, str(server.folder(folder)))
            server.begin()
            others.append(server)
        for server in others:
            server.await_start()
        members = [first, *others]
        for server in members:
            self.synchronized(server, members=size)
        return members

    def synchronized(self, server: Server, *, members: int | None = None, timeout_s: int = 60) -> None:
        """`replicad wait` from this server."""
        count = [] if members is None else ["--members", str(members)]
        server.cli("wait", "--timeout", str(timeout_s), *count)

    def same(self, servers: Sequence[Server], folder: str = "docs") -> None:
        assert_same_trees(*(server.folder(folder) for server in servers))

    def close(self) -> None:
        for server in self.all:
            if server.running:
                server.kill()

    def logs(self) -> str:
        return "\n".join(f"--- {server.name}\n{server.last_words()}" for server in self.all)


def _places(listen: str = ANY_PORT, advertise: str = "", api: str = ANY_PORT) -> list[str]:
    return ["--listen", listen, "--api", api, *(["--advertise", advertise] if advertise else [])]


def _environment() -> dict[str, str]:
    """Ours, without what would configure a member."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("REPLICAD_", "NOTIFY_"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A path that fits into a socket address."""
    handle = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{path.name}"
    finally:
        os.close(handle)
