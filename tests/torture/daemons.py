"""Members at hosts of their own: a daemon that is started, stopped and killed without anybody waiting for it.

`watch` is called again and again: it notices that a daemon is up, has ended, or ended though nobody told it to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from enum import Enum
from pathlib import Path

from tests.system.harness import START_S, STOP_S, Server
from tests.torture.hosts import Hosts

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
GROUP = "torture"
FOLDER = "docs"
PORT = 7722
SLOWER = 4
"""So many times longer than in other tests a daemon may take: five of them share the machine with their users."""


COMMAND_S = 120.0


class State(Enum):
    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"


class Member(Server):
    """One member, its host, its clock. `troubles` is what a daemon did that it must not do."""

    def __init__(self, base: Path, name: str, number: int, hosts: Hosts) -> None:
        super().__init__(base, name)
        self.number = number
        self.prefix = hosts.entering(number)
        self.address = hosts.address(number)
        self.state = State.DOWN
        self.troubles: list[str] = []
        self._since_s = 0.0
        self._commands: list[subprocess.Popen[bytes]] = []
        self.root = os.fsencode(self.folder(FOLDER))
        self.outside = os.fsencode(self.base / "outside")
        os.mkdir(self.outside)
        os.mkdir(self.root)

    def up_for_s(self) -> float:
        return time.monotonic() - self._since_s if self.state is State.UP else 0.0

    def set_clock(self, offset_s: int) -> None:
        """From its next start on. The files that it makes have the kernel's times."""
        if offset_s and not LIBRARIES:
            raise FileNotFoundError("libfaketime is not installed")
        names = ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC", "NO_FAKE_STAT")
        for name in names:
            self.settings.pop(name, None)
        if offset_s:
            self.settings |= dict(zip(names, (str(LIBRARIES[0]), f"{offset_s:+d}s", "1", "1"), strict=True))

    # -- without waiting

    def begin(self, *arguments: str) -> None:
        super().begin(*arguments)
        self._become(State.STARTING)

    def begin_to_stop(self) -> None:
        self.send_signal(signal.SIGTERM)
        self._become(State.STOPPING)

    def begin_command(self, *arguments: str) -> None:
        """Of the CLI. Whether it can do it is not asked: its daemon may be killed meanwhile."""
        command = [*self.prefix, sys.executable, "-m", "replicad", *arguments, "--home", str(self.home)]
        with self.log.open("ab") as log:
            self._commands.append(subprocess.Popen(command, stdout=log, stderr=log))

    def end_commands(self) -> None:
        for command in self._commands:
            command.wait(COMMAND_S)
        self._commands.clear()

    def kill(self) -> None:
        pid = self.pid
        super().kill()
        self._become(State.DOWN)
        for left in Path("/dev/shm").glob(f"faketime_*_{pid}"):
            left.unlink(missing_ok=True)

    def watch(self) -> None:
        if self.state is State.DOWN:
            return
        assert self._process is not None
        status = self._process.poll()
        late = time.monotonic() - self._since_s
        if status is not None:
            self._ended(status)
        elif self.state is State.STARTING and self._says_ready():
            self._become(State.UP)
        elif self.state is State.STARTING and late > START_S * SLOWER:
            self._trouble(f"is not up after {late:.0f} s")
        elif self.state is State.STOPPING and late > STOP_S * SLOWER:
            self._trouble(f"does not end within {late:.0f} s")

    # -- inside

    def _become(self, state: State) -> None:
        self.state = state
        self._since_s = time.monotonic()

    def _ended(self, status: int) -> None:
        self._gone()
        if self.state is not State.STOPPING or status != 0:
            self.troubles.append(f"{self.name}: ended while {self.state.value}, exit status {status}, see {self.log}")
        self._become(State.DOWN)

    def _trouble(self, what: str) -> None:
        self.troubles.append(f"{self.name}: {what}, see {self.log}")
        self.kill()

    def _says_ready(self) -> bool:
        assert self._notices is not None
        self._notices.setblocking(False)
        try:
            return self._notices.recv(4096).startswith(b"READY=1")
        except BlockingIOError:
            return False


def found_group(members: list[Member]) -> None:
    """All run and keep one folder, which the first has made."""
    first, *others = members
    first.cli("init", "--name", first.name, "--group", GROUP, *_places(first))
    first.cli("folder", "create", FOLDER, os.fsdecode(first.root))
    first.begin()
    until_up([first])
    token = first.cli("invite", "--uses", str(len(members)))
    for member in others:
        member.cli("join", token, "--name", member.name, *_places(member))
        member.cli("folder", "join", FOLDER, os.fsdecode(member.root))
        member.begin()
    until_up(members)


def declare_group(members: list[Member], secret: Path) -> None:
    """All are declared alike, each with what is on its disk by then, and start at one moment. They found the folder
    together, when they meet."""
    secret.write_text("the secret of the tortured\n")
    for member in members:
        member.settings |= {
            "REPLICAD_MEMBER_NAME": member.name,
            "REPLICAD_MEMBER_LISTEN": f"{member.address}:{PORT}",
            "REPLICAD_GROUP_NAME": GROUP,
            "REPLICAD_GROUP_SECRET_FILE": str(secret),
            "REPLICAD_GROUP_SEEDS": ",".join(f"{one.address}:{PORT}" for one in members),
            "REPLICAD_FOLDER_NAME": FOLDER,
            "REPLICAD_FOLDER_PATH": os.fsdecode(member.root),
        }
        member.begin()


def until_up(members: list[Member]) -> None:
    """Those that are starting are up, or have become a trouble."""
    while any(member.state in (State.STARTING, State.STOPPING) for member in members):
        for member in members:
            member.watch()
        time.sleep(0.02)


def _places(member: Member) -> list[str]:
    listen = f"{member.address}:{PORT}"
    return ["--listen", listen, "--advertise", listen]
