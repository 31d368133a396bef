"""Hosts with addresses of their own: network namespaces on a bridge, whose links are cut, lose packets, or are slow."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "lab" / "netns"
TABLE = "cut"
BURST = "64kb"
LATENCY = "400ms"


class Hosts:
    """Numbered from 1. `up` before use, `down` at the end; two groups of hosts can be up at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._prefix = f"rt{os.getpid()}-"
        self._cuts: set[tuple[int, int]] = set()
        self._losses: dict[int, int] = {}

    def up(self) -> None:
        subprocess.run([SCRIPT, "up", str(self.size), self._prefix], check=True)

    def down(self) -> None:
        subprocess.run([SCRIPT, "down", self._prefix], check=True)

    def entering(self, host: int) -> list[str]:
        """What stands before a command that is to run there; it becomes that command, with the same process id."""
        return ["nsenter", f"--net=/run/netns/{self._prefix}{host}"]

    def address(self, host: int) -> str:
        return f"10.213.0.{host}"

    # -- weather

    def cut(self, ways: Iterable[tuple[int, int]]) -> None:
        """From one host to another; the way back is another."""
        self._cuts |= set(ways)
        self._apply()

    def mend(self, ways: Iterable[tuple[int, int]]) -> None:
        self._cuts -= set(ways)
        self._apply()

    def lose(self, host: int, percent: int) -> None:
        """Of the packets that it sends; 0: none."""
        self._losses[host] = percent
        self._apply()

    def slow(self, host: int, mbit: int) -> None:
        """Both ways; 0: as fast as it can be."""
        for namespace, device in ((f"{self._prefix}{host}", "eth0"), (f"{self._prefix}hub", f"v{host}")):
            tc = ["tc", "-n", namespace, "qdisc"]
            if mbit:
                rate = ["tbf", "rate", f"{mbit}mbit", "burst", BURST, "latency", LATENCY]
                subprocess.run([*tc, "replace", "dev", device, "root", *rate], check=True)
            else:
                subprocess.run([*tc, "del", "dev", device, "root"], check=False, capture_output=True)

    def heal(self) -> None:
        self._cuts.clear()
        self._losses.clear()
        self._apply()
        for host in range(1, self.size + 1):
            self.slow(host, 0)

    def _apply(self) -> None:
        rules = [f'iifname "v{one}" oifname "v{other}" drop' for one, other in sorted(self._cuts)]
        for host, percent in sorted(self._losses.items()):
            if percent:
                rules.append(f'iifname "v{host}" numgen random mod 100 < {percent} drop')
        chain = "\n".join(["type filter hook forward priority 0;", *rules])
        table = f"table bridge {TABLE}"
        ruleset = f"{table}\ndelete {table}\n{table} {{\nchain f {{\n{chain}\n}}\n}}\n"
        hub = ["nsenter", f"--net=/run/netns/{self._prefix}hub"]
        subprocess.run([*hub, "nft", "-f", "-"], input=ruleset, text=True, check=True)
