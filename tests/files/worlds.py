"""The two filesystems behind one face, for suites that run on both: what a test needs beyond the protocol."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from replicad.files.fs import FileSystem, Stat
from replicad.files.linux import Features
from replicad.files.paths import join
from replicad.files.real_fs import RealFileSystem
from tests.sim.memory_fs import MemoryFileSystem

PROBE = b"clock-probe"


@dataclass
class World:
    """A filesystem, and a user beside it."""

    name: str
    fs: FileSystem
    make_fifo: Callable[[bytes], None]
    make_link: Callable[[bytes, bytes], None]
    user_rename: Callable[[bytes, bytes], None]
    let_time_pass: Callable[[], None]
    """Until a change gets a later time than any before it (a disk's clock advances in ticks)."""

    def write(self, path: bytes, data: bytes) -> None:
        with self.fs.create(path) as file:
            file.write_at(0, data)

    def read(self, path: bytes) -> bytes:
        with self.fs.open_read(path) as file:
            return file.read_at(0, 1 << 30)

    def there(self, path: bytes) -> Stat:
        found = self.fs.stat(path)
        assert found is not None, path
        return found

    def memory(self) -> MemoryFileSystem:
        assert isinstance(self.fs, MemoryFileSystem)
        return self.fs

    def make_dirs(self, path: bytes) -> None:
        above = b""
        for name in path.split(b"/"):
            above = join(above, name)
            if self.fs.stat(above) is None:
                self.fs.make_dir(above, 0o755)


class ManualClock:
    """Nanoseconds that move when a test says so, from some day in 2033."""

    def __init__(self) -> None:
        self.now_ns = 2_000_000_000_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def advance(self) -> None:
        self.now_ns += 1_000_000


def memory_world() -> World:
    clock = ManualClock()
    fs = MemoryFileSystem(clock)
    return World("memory", fs, fs.user_fifo, fs.user_link, fs.user_rename, clock.advance)


def real_world(root: Path, features: Features | None = None) -> World:
    fs = RealFileSystem(root, features)
    base = os.fsencode(root)

    def at(path: bytes) -> bytes:
        return os.path.join(base, path)

    def let_time_pass() -> None:
        probe = root.parent / os.fsdecode(PROBE)
        probe.touch()
        before = probe.stat().st_ctime_ns
        while probe.stat().st_ctime_ns == before:
            probe.chmod(0o600)
        probe.unlink()

    return World(
        "real" if features is None else "real, old kernel",
        fs,
        lambda path: os.mkfifo(at(path)),
        lambda path, new: os.link(at(path), at(new)),
        lambda source, target: os.rename(at(source), at(target)),
        let_time_pass,
    )
