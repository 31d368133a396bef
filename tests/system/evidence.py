"""What is to be kept of a test that failed: what each member said and shows, what is mounted, and who holds it.

Nothing here raises: what cannot be found out is said in its place.
"""

import json
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from replicad.cli.client import request
from tests.system.harness import Server, Servers

LOG_BYTES_MAX = 200_000
"""Of each member's log, from its end: some thousand lines."""
ANSWER_S = 10.0
"""A daemon that does not answer by then hangs, which is told too."""
HELD = ("cwd", "root", "exe")


@pytest.hookimpl(wrapper=True)
def shown_where_it_fails(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A conftest's `pytest_runtest_makereport`: as it is when the test fails, before anything is unmounted or ended."""
    report = yield
    servers = getattr(item, "funcargs", {}).get("servers")
    if call.when == "call" and report.failed and isinstance(servers, Servers):
        report.sections.append(("what there was when it failed", of(servers)))
    return report


def of(servers: Servers) -> str:
    """All of it, in sections. Running daemons are asked, so before they are ended."""
    parts = [section(f"status of {one.name}", lambda one=one: status(one)) for one in servers.all if one.running]
    parts += [section(f"threads of {one.name}", lambda one=one: threads(one.pid)) for one in servers.all if one.running]
    parts += [section("mounts", lambda: mounts(servers.base.parent)), section("load", load)]
    parts += [section("who holds what lies there", lambda: "\n".join(holders(servers.base.parent)))]
    parts += [section(f"log of {one.name}", lambda one=one: log(one)) for one in servers.all]
    return "\n".join(parts)


def section(title: str, tell: Callable[[], str]) -> str:
    try:
        told = tell()
    except Exception as error:  # noqa: BLE001 the test's own failure is what counts
        told = f"cannot be had: {error!r}"
    return f"--- {title}\n{told}"


def status(server: Server) -> str:
    shot = request(server.home, "GET", "/v1/status", timeout_s=ANSWER_S)
    return json.dumps(shot, indent=1)


def log(server: Server) -> str:
    return server.log.read_bytes()[-LOG_BYTES_MAX:].decode(errors="replace") if server.log.exists() else "none"


def mounts(base: Path) -> str:
    """The lines of places within `base`, of each namespace's table of mounts: who makes one copies all that is mounted,
    and keeps it mounted, whatever is unmounted elsewhere."""
    return "\n".join(f"{who}: {line}" for who, table in _tables() for line in table if str(base) in line)


def _tables() -> Iterator[tuple[str, list[str]]]:
    """With a process that sees it."""
    seen = set()
    for process in (Path("/proc/self"), *Path("/proc").glob("[0-9]*")):
        try:
            namespace = os.readlink(process / "ns/mnt")
            table = (process / "mountinfo").read_text(errors="replace") if namespace not in seen else ""
        except OSError:
            continue  # it has ended
        seen.add(namespace)
        yield f"{process.name} {_name(process)}", table.splitlines()


def load() -> str:
    return Path("/proc/loadavg").read_text() + Path("/proc/meminfo").read_text()[:100]


def threads(pid: int) -> str:
    """Of a process: each thread's name, state and where in the kernel it is."""
    lines = []
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name)):
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        lines.append(f"{task.name} {(task / 'comm').read_text().strip()} {state} {(task / 'wchan').read_text()}")
    return "\n".join(lines)


def holders(base: Path) -> Iterator[str]:
    """Processes that have something open, mapped or are at work within `base`: what keeps it from being unmounted."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and (held := _held_by(process, str(base))):
            yield f"{process.name} {_name(process)}"
            yield from (f"    {what}" for what in sorted(held))


def _held_by(process: Path, base: str) -> set[str]:
    found = set()
    try:
        links = [process / name for name in HELD] + list((process / "fd").iterdir())
    except OSError:
        return found  # it has ended
    for link in links:
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith(base):
            found.add(f"{link.name} {target}")
    try:
        maps = (process / "maps").read_text(errors="replace")
    except OSError:
        return found
    return found | {f"mapped {line[at:]}" for line in maps.splitlines() if (at := line.find(base)) >= 0}


def _name(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        return "?"
