"""Two daemons on loopback with a folder each, driven by the commands that operators use."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

READY_S = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Node:
    """One daemon: `run` of a command on its home, `start`, `stop`."""

    def __init__(self, base: Path, name: str) -> None:
        self.name = name
        self.home = base / f"{name}.home"
        self.folder = base / name
        self.log = base / f"{name}.log"
        self.ports = (free_port(), free_port())
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *words: str, text: str = "") -> str:
        """A command's standard output; raises with its standard error."""
        command = [sys.executable, "-m", "replicad", "--home", str(self.home), *words]
        done = subprocess.run(command, capture_output=True, text=True, input=text, timeout=600, check=False)
        if done.returncode:
            raise RuntimeError(f"replicad {' '.join(words)}: exit status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def places(self) -> list[str]:
        return ["--listen", f"127.0.0.1:{self.ports[0]}", "--api", f"127.0.0.1:{self.ports[1]}"]

    def start(self) -> None:
        path = str(self.home / "bench.notify")
        with suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, self.log.open("ab") as log:
            told.bind(path)
            told.settimeout(READY_S)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "replicad", "--home", str(self.home), "run"],
                stderr=log,
                stdout=log,
                env={**os.environ, "NOTIFY_SOCKET": path},
            )
            while b"READY=1" not in told.recv(4096):
                pass

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json"))
        return found

    def cpu_s(self) -> float:
        """Of the daemon so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


class Pair:
    """Founded, joined, with one folder `bench` on both."""

    def __init__(self, base: Path) -> None:
        self.alpha, self.beta = Node(base, "alpha"), Node(base, "beta")

    def __enter__(self) -> Pair:
        alpha, beta = self.alpha, self.beta
        alpha.run("init", "--name", "alpha", "--group", "bench", *alpha.places())
        alpha.run("folder", "create", "bench", str(alpha.folder))
        alpha.start()
        token = alpha.run("invite").strip()
        beta.run("join", "-", "--name", "beta", *beta.places(), text=token)
        beta.start()
        alpha.run("wait", "--timeout", "60")
        beta.run("folder", "join", "bench", str(beta.folder))
        self.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        for node in (self.beta, self.alpha):
            node.stop()

    def wait(self) -> None:
        self.alpha.run("wait", "--folder", "bench", "--members", "2", "--timeout", "600")


def clear(path: Path) -> None:
    """Everything in a folder but its private directory."""
    for entry in path.iterdir():
        if entry.name != ".replicad":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
