"""Which processes have a file open for writing, or mapped, as /proc tells: for operators who ask why it never rests.

Only processes of which this one may know it are seen (its own user's; with root all). Nothing depends on the answer.
What is looked at is bounded, in number and in time, since a server may have very many processes.

A descriptor is first compared by the name to which it leads, which costs the filesystem nothing, and asked what it is
only if that is the name of a file that is looked for: so a mount that hangs, with other names, hangs nobody here. A
mapping is known by name and inode number alone, since some filesystems (btrfs, overlays) show another device there than
that of the file: where a copy of the whole disk is in use under the same names, its user may be named.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

PROCESSES_MAX = 16_384
DESCRIPTORS_MAX = 200_000
"""Of all processes together: 2 µs each."""
MAPPINGS_BYTES_MAX = 8 * 1_048_576
"""Of one process: what 65,530 mappings take (vm.max_map_count), some 50 ms."""
LOOK_MAX_S = 2.0
NAMED_MAX = 3
"""Processes that are named of one file; of the rest how many they are."""

FileId = tuple[int, int]
"""Device and inode."""
_PROC = b"/proc"
_DELETED = b" (deleted)"
_SHARED_TO_WRITE = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ .w.s [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ ([0-9]+) +(/.*)$", re.M)
"""A line of /proc/PID/maps: inode, path, in which a newline is escaped."""


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    command: str
    """As the process calls itself; unprintable bytes escaped."""


def find_holders(files: Mapping[bytes, FileId]) -> dict[bytes, list[Holder]]:
    """By path: who has that file open for writing, or mapped, by rising pid; this process is not counted. Blocking."""
    found: dict[bytes, list[Holder]] = {path: [] for path in files}
    if not files:
        return found
    paths: dict[FileId, list[bytes]] = {}
    for path, identity in files.items():
        paths.setdefault(identity, []).append(path)
    names = {path.rpartition(b"/")[2] for path in files}
    for pid, identities in _writers(names, paths.keys()):
        holder = Holder(pid, _command(pid))
        for identity in identities:
            for path in paths[identity]:
                found[path].append(holder)
    return found


def in_words(holders: Sequence[Holder]) -> str:
    """`pid 12 (vim), pid 34 (rsync) and 2 more`."""
    named = ", ".join(f"pid {one.pid} ({one.command})" for one in holders[:NAMED_MAX])
    more = len(holders) - NAMED_MAX
    return f"{named} and {more} more" if more > 0 else named


def _writers(names: set[bytes], wanted: Iterable[FileId]) -> Iterator[tuple[int, set[FileId]]]:
    identities, left, own = frozenset(wanted), DESCRIPTORS_MAX, os.getpid()
    end = time.monotonic() + LOOK_MAX_S
    pids = sorted(int(name) for name in os.listdir(_PROC) if name.isdigit())
    for pid in pids[:PROCESSES_MAX]:
        if pid == own:
            continue
        if left <= 0 or time.monotonic() > end:
            return
        try:
            descriptors = os.listdir(b"%s/%d/fd" % (_PROC, pid))[:left]
        except OSError:
            continue  # it has ended, or is none of our business
        left -= len(descriptors)
        held = {one for descriptor in descriptors if (one := _written(pid, descriptor, names)) is not None}
        mapped = _mapped(pid, names)
        held = {one for one in identities if one in held or one[1] in mapped}
        if held:
            yield pid, held


def _written(pid: int, descriptor: bytes, names: set[bytes]) -> FileId | None:
    """What is open for writing there; None where nothing is that has one of these names."""
    link = b"%s/%d/fd/%s" % (_PROC, pid, descriptor)
    try:
        name = os.readlink(link).removesuffix(_DELETED).rpartition(b"/")[2]
        if name not in names:
            return None
        with open(b"%s/%d/fdinfo/%s" % (_PROC, pid, descriptor), "rb") as info:
            flags = next((int(line.split()[1], 8) for line in info if line.startswith(b"flags:")), os.O_RDONLY)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return None
        status = os.stat(link)
    except OSError:
        return None  # closed meanwhile
    return status.st_dev, status.st_ino


def _mapped(pid: int, names: set[bytes]) -> set[int]:
    """Inodes of what is mapped so that a write goes to the file, and has one of these names. Its descriptor may be
    closed."""
    try:
        with open(b"%s/%d/maps" % (_PROC, pid), "rb") as file:
            lines = _SHARED_TO_WRITE.findall(file.read(MAPPINGS_BYTES_MAX))
    except OSError:
        return set()  # it has ended, or is none of our business
    found = set()
    for inode, path in lines:
        name = path.removesuffix(_DELETED).rpartition(b"/")[2].replace(b"\\012", b"\n")
        if name in names:
            found.add(int(inode))
    return found


def _command(pid: int) -> str:
    try:
        with open(b"%s/%d/comm" % (_PROC, pid), "rb") as file:
            text = file.read().rstrip(b"\n").decode(errors="backslashreplace")
    except OSError:
        return "?"
    return "".join(letter if letter.isprintable() else "?" for letter in text)
