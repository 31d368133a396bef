"""Tells when something is mounted in a folder, or unmounted: inotify does not, and a look finds it only by chance.

Linux lets the table of mounts be polled (proc_pid_mountinfo(5): POLLERR and POLLPRI once it has changed). Then it is
read and held against what it was; what differs within the folder is a place to be looked at. What stands there the
look tells: nothing is concluded from the table. Where there is none to be read, full scans find mounts all the same.

The table may change often and be long (containers): after each reading it rests, and what changed meanwhile is one
reading.
"""

import os
import re
import select
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

TABLE = "/proc/self/mountinfo"
REST_S = 0.1
REST_FACTOR = 20
"""Times as long as the last reading took: at most 5 % of a processor, and for 100,000 mounts (fs.mount-max) 2 s."""

Mounts = Mapping[bytes, bytes]
"""Mount points by the mount's id."""
_GONE = b"//deleted"
"""After a mount point whose directory was removed."""
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Table(Protocol):
    """Of the mounts that this process sees."""

    def read(self) -> bytes:
        """As /proc/self/mountinfo."""

    def wait(self) -> bool:
        """Until it has changed since the last `wait`, or it was opened; False where it is to end."""

    def rest(self, seconds: float) -> bool:
        """False where it is to end."""

    def end(self) -> None:
        """From any thread: `wait` and `rest` return, at once from now on."""

    def close(self) -> None: ...


def mount_points(table: bytes) -> dict[bytes, bytes]:
    """What the table says, lines that are not as they should be left out."""
    found = {}
    for line in table.splitlines():
        fields = line.split(b" ", 5)
        if len(fields) > 4:
            point = fields[4].removesuffix(_GONE)
            found[fields[0]] = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8) & 0xFF]), point)
    return found


def changed_within(before: Mounts, after: Mounts, root: bytes) -> list[bytes]:
    """Paths, relative to `root` and beneath it, at which something was mounted or unmounted, uppermost first."""
    above = root.rstrip(b"/") + b"/"
    points = {point for _, point in before.items() ^ after.items()}
    return sorted(point[len(above) :] for point in points if point.startswith(above) and len(point) > len(above))


class MountWatch:
    """A thread that calls `tell` with what `changed_within` says (perhaps nothing) whenever the table has changed.

    `root` tells where the folder's root is by now. The table is the watch's own, and closed with it. Raises OSError
    where it cannot be read. Nothing is missed from the making on. `close` is not to be called
    from `tell`, nor with a lock held that it takes.
    """

    def __init__(self, root: Callable[[], bytes], tell: Callable[[list[bytes]], None], table: Table) -> None:
        self._root = root
        self._tell = tell
        self._table = table
        try:
            self._known: Mounts = mount_points(table.read())
        except OSError:
            table.close()
            raise
        self._thread = threading.Thread(target=self._run, name="replicad-mounts", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._table.end()
        self._thread.join()
        self._table.close()

    def _run(self) -> None:
        while self._table.wait():
            begun = time.monotonic()
            try:
                now = mount_points(self._table.read())
                root = self._root()
            except OSError:
                return  # no /proc any more, or no descriptor: the full scans are left
            changed, self._known = changed_within(self._known, now, root), now
            self._tell(changed)
            if not self._table.rest(max(REST_S, REST_FACTOR * (time.monotonic() - begun))):
                return


class SystemTable:
    """`Table` of this process. Raises OSError where it cannot be read."""

    def __init__(self, path: str = TABLE) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._ended, self._end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            os.close(self._file)
            raise

    def read(self) -> bytes:
        pieces = []
        os.lseek(self._file, 0, os.SEEK_SET)
        while piece := os.read(self._file, 65_536):
            pieces.append(piece)
        return b"".join(pieces)

    def wait(self) -> bool:
        ready = select.poll()
        ready.register(self._file, select.POLLPRI)  # and POLLERR, always
        ready.register(self._ended, select.POLLIN)
        return self._ended not in dict(ready.poll())

    def rest(self, seconds: float) -> bool:
        ready = select.poll()
        ready.register(self._ended, select.POLLIN)
        return not ready.poll(seconds * 1_000)

    def end(self) -> None:
        os.write(self._end, b"e")

    def close(self) -> None:
        for handle in (self._file, self._ended, self._end):
            os.close(handle)
