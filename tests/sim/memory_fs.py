"""A folder's tree in memory: the same protocol, and the same behaviour, as the one on a real disk.

tests/files/test_fs_contract.py runs one suite against both. Time is the simulator's; faults come from hooks; a
simulated user acts on the same tree by the `user_…` methods (`memory_user`), which no hook stops; a `MemoryWatch`
(`memory_watch`) is told of every change as the real watch would be.
"""

import copy
import errno
from collections.abc import Callable, Sequence

from replicad.files.fs import DIRECTORY, FILE, OTHER, SYMLINK, OpenFile, Stat
from replicad.files.paths import PRIVATE, join
from tests.sim.memory_tree import TARGET_MAX, Node, Tree, failure
from tests.sim.memory_user import UserSide

Hook = Callable[[str, tuple[bytes, ...]], None]
"""Called with a method's name and its paths before anything is done; what it raises is what the caller gets."""


class TornWriteError(Exception):
    """Raised by a hook before `write_at`: the first `written` bytes reach the file, then `cause` is raised."""

    def __init__(self, written: int, cause: BaseException) -> None:
        super().__init__(written)
        self.written = written
        self.cause = cause


class MemoryOpenFile:
    """An open file; it stays usable when its name goes, until `close` or a crash (EBADF)."""

    def __init__(self, fs: "MemoryFileSystem", node: Node, path: bytes, writable: bool, by_user: bool = False) -> None:
        self._fs = fs
        self._node = node
        self._path = path
        self._writable = writable
        self._by_user = by_user
        self._open = True
        node.opens += 1
        node.writers += writable and by_user
        if not by_user:
            fs.open_files[self] = None

    def stat(self) -> Stat:
        return self._live(None).stat()

    def read_at(self, offset: int, length: int) -> bytes:
        node = self._live(None)
        if not self._by_user:
            self._fs.about_to_read("read_at", self._path)
        return bytes(node.data[offset : offset + length])

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        content = bytes(data)
        torn: TornWriteError | None = None
        try:
            node = self._live("write_at")
        except TornWriteError as error:
            torn, content, node = error, content[: error.written], self._node
        if not self._writable:
            raise failure(errno.EBADF, self._path)
        if content:
            if offset + len(content) > len(node.data):
                self._fs.tree.resize(node, offset + len(content))
            node.data[offset : offset + len(content)] = content
            self._fs.tree.touch(node)
            self._fs.told_of(node)
        if torn is not None:
            raise torn.cause

    def drop_cached(self) -> None:
        """Nothing is held twice."""

    def truncate(self, size: int) -> None:
        node = self._live("truncate")
        self._fs.tree.resize(node, size)
        self._fs.tree.touch(node)
        self._fs.told_of(node)

    def set_meta(self, mode: int, mtime_ns: int) -> None:
        node = self._live("set_meta")
        node.mode, node.mtime_ns, node.ctime_ns = mode, mtime_ns, self._fs.tree.now()
        self._fs.told_of(node)

    def sync(self) -> None:
        self._live("sync")

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._fs.open_files.pop(self, None)
        self._node.opens -= 1
        self._node.writers -= self._writable and self._by_user
        self._fs.tree.release(self._node)
        if self._writable:
            self._fs.told_of(self._node, closed=True)

    def _live(self, mutation: str | None) -> Node:
        if not self._open:
            raise failure(errno.EBADF, self._path)
        if mutation is not None and not self._by_user:
            self._fs.about_to_change(mutation, self._path)
        return self._node

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MemoryFileSystem(UserSide):
    """`FileSystem` in memory. `clock` gives nanoseconds. `capacity_bytes` limits the content (ENOSPC beyond it)."""

    def __init__(
        self, clock: Callable[[], int], *, reuse_inodes: bool = True, capacity_bytes: int | None = None
    ) -> None:
        self.tree = Tree(clock, reuse_inodes, capacity_bytes)
        self.before_change: Hook | None = None
        self.before_read: Hook | None = None
        self.on_entry: Callable[[Node, bytes, bool, Node | None, bool], None] | None = None
        """The watch: told of (directory, name, whether it is new, the directory that it came from, whether it was
        closed after writing) after each change of an entry."""
        self.on_moved: Callable[[Node, bytes], None] | None = None
        """The watch: told of each directory that changed its place, after it has, and of its path before."""
        self.exchanges = True
        """Whether this filesystem has RENAME_EXCHANGE."""
        self.modes_bind = False
        """Whether a directory's mode keeps the process from changing what is in it, as it does whoever is not root."""
        self.in_place = True
        """Whether the path that the operator named leads here."""
        self.anew: MemoryFileSystem | None = None
        """Where it leads otherwise."""
        self.is_open = True
        """The process has not let go of it."""
        self.uuid = b"in memory......."
        self.open_files: dict[MemoryOpenFile, None] = {}
        """The process's own, in the order of their opening."""

    def crash(self) -> None:
        """kill -9: the process's open files are closed (the user's are not); what was written stays."""
        for file in list(self.open_files):
            file.close()

    def supports_exchange(self, directory: bytes = PRIVATE) -> bool:
        self.tree.directory(directory)
        return self.exchanges

    def filesystem_uuid(self) -> bytes | None:
        return self.uuid

    def root_in_place(self) -> bool:
        return self.in_place and self.is_open

    def opened_anew(self) -> "MemoryFileSystem":
        if self.anew is not None:
            return self.anew
        if not self.in_place:
            raise failure(errno.ENOENT, b"the root")
        there = copy.copy(self)
        there.is_open = True
        there.on_entry = there.on_moved = None
        return there

    def let_go(self) -> None:
        self.is_open = False

    # Looking.

    def stat(self, path: bytes) -> Stat | None:
        self.about_to_read("stat", path)
        if not path:
            return self.tree.root.stat()
        try:
            directory, name = self._place(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        node = self.tree.find(directory, name)
        return node.stat() if node is not None else None

    def stat_in(self, directory: bytes, name: bytes) -> tuple[Stat, Stat | None]:
        self.about_to_read("stat", join(directory, name))
        above = self.tree.directory(directory)
        node = self.tree.find(above, name)
        return above.stat(), node.stat() if node is not None else None

    def list_dir(self, path: bytes) -> list[tuple[bytes, Stat]]:
        return self.read_dir(path)[1]

    def read_dir(self, path: bytes) -> tuple[Stat, list[tuple[bytes, Stat]]]:
        self.about_to_read("list_dir", path)
        directory = self.tree.directory(path)
        names = sorted(directory.entries)
        return directory.stat(), [(name, self.tree.entry(directory, name).stat()) for name in names]

    def read_link(self, path: bytes) -> bytes:
        self.about_to_read("read_link", path)
        node = self._entry(path)
        if node.kind != SYMLINK:
            raise failure(errno.EINVAL, path)
        return node.target

    def open_read(self, path: bytes) -> OpenFile:
        self.about_to_read("open_read", path)
        return MemoryOpenFile(self, self._regular(path), path, writable=False)

    def open_write(self, path: bytes) -> OpenFile:
        self.about_to_read("open_write", path)
        return MemoryOpenFile(self, self._regular(path), path, writable=True)

    def total_bytes(self) -> int:
        self._check_open()
        return 1 << 50 if self.tree.capacity_bytes is None else self.tree.capacity_bytes

    def is_open_for_writing(self, path: bytes) -> bool:
        self.about_to_read("is_open_for_writing", path)
        return self._regular(path).writers > 0

    def free_bytes(self) -> int:
        self._check_open()
        capacity = self.tree.capacity_bytes
        return (1 << 50) - self.tree.used_bytes if capacity is None else capacity - self.tree.used_bytes

    # Changing.

    def create(self, path: bytes) -> OpenFile:
        self.about_to_change("create", path)
        self._check_free(path)
        return MemoryOpenFile(self, self._make(path, FILE, 0o600), path, writable=True)

    def make_dir(self, path: bytes, mode: int) -> None:
        self.about_to_change("make_dir", path)
        self._check_free(path)
        self._make(path, DIRECTORY, mode)

    def make_symlink(self, path: bytes, target: bytes) -> None:
        self.about_to_change("make_symlink", path)
        self._check_free(path)
        if not target:
            raise failure(errno.ENOENT, path)
        if len(target) > TARGET_MAX:
            raise failure(errno.ENAMETOOLONG, path)
        self._make(path, SYMLINK, 0o777).target = target

    def rename(self, source: bytes, target: bytes) -> None:
        self.about_to_change("rename", source, target)
        directory, name = self._place(source)
        target_directory, target_name = self._place(target)
        self.tree.entry(directory, name)
        if self.tree.find(target_directory, target_name) is not None:
            raise failure(errno.EEXIST, target)
        self.tree.check_name(target_name)
        self._check_modes((source, directory, target_directory), (target, target_directory, directory))
        node = self.tree.check_move(directory, name, target_directory)
        self.tree.move(directory, name, target_directory, target_name)
        self._moved(directory, name, target_directory, target_name, node)

    def exchange(self, one: bytes, other: bytes) -> None:
        self.about_to_change("exchange", one, other)
        directory, other_directory = self._place(one)[0], self._place(other)[0]
        if self.exchanges and self._entry(one) and self._entry(other):
            self._check_modes((one, directory, other_directory), (other, other_directory, directory))
        self._exchange(one, other)

    def unlink(self, path: bytes) -> None:
        self.about_to_change("unlink", path)
        self._entry(path)
        directory = self._place(path)[0]
        self._check_modes((path, directory, directory))
        self._unlink(path)

    def remove_dir(self, path: bytes) -> None:
        self.about_to_change("remove_dir", path)
        self._entry(path)
        directory = self._place(path)[0]
        self._check_modes((path, directory, directory))
        self._remove_dir(path)

    def set_mode(self, path: bytes, mode: int) -> None:
        self.about_to_change("set_mode", path)
        self._set_mode(path, mode)

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        self.about_to_change("set_mtime", path)
        self._set_mtime(path, mtime_ns)

    def sync_dirs(self, paths: Sequence[bytes]) -> None:
        for path in paths:
            self.about_to_change("sync_dirs", path)
            self.tree.directory(path)

    def sync_all(self) -> None:
        self.about_to_change("sync_all")

    def close(self) -> None:
        """Nothing is held."""

    # What modes forbid.

    def _check_free(self, path: bytes) -> None:
        directory, name = self._place(path)
        if self.tree.find(directory, name) is None:
            self._check_modes((path, directory, directory))

    def _check_modes(self, *changes: tuple[bytes, Node, Node]) -> None:
        """Of each (path, the directory that it is in, the one that it goes to). A directory that gets another parent
        is written itself: its `..`."""
        if not self.modes_bind:
            return
        for path, directory, other in changes:
            if directory.mode & 0o300 != 0o300:
                raise failure(errno.EACCES, path)
            node = self.tree.find(*self._place(path))
            if node is not None and node.kind == DIRECTORY and directory is not other and not node.mode & 0o200:
                raise failure(errno.EACCES, path)

    # Hooks and the watch.

    def about_to_change(self, method: str, *paths: bytes) -> None:
        self._check_open(*paths)
        if self.before_change is not None:
            self.before_change(method, paths)

    def about_to_read(self, method: str, *paths: bytes) -> None:
        self._check_open(*paths)
        if self.before_read is not None:
            self.before_read(method, paths)

    def _check_open(self, *paths: bytes) -> None:
        if not self.is_open:
            raise failure(errno.EBADF, *paths[:1])

    def told_of(self, node: Node, *, closed: bool = False) -> None:
        """A change to a node through an open file: told under its newest name; not at all when it has none."""
        if node.parent is not None:
            self._told(node.parent, node.name, closed=closed)

    def _told(
        self, directory: Node, name: bytes, new: bool = False, source: Node | None = None, closed: bool = False
    ) -> None:
        if self.on_entry is not None:
            self.on_entry(directory, name, new, source, closed)

    def _moved(self, one: Node, one_name: bytes, other: Node, other_name: bytes, *nodes: Node) -> None:
        """The first node went from `one` to `other`, the second, if there is one, the other way."""
        self._told(one, one_name)
        self._told(other, other_name, new=True, source=one)
        if len(nodes) > 1:
            self._told(other, other_name)
            self._told(one, one_name, new=True, source=other)
        places = (join(one.path(), one_name), join(other.path(), other_name))
        for node, before in zip(nodes, places, strict=False):
            if node.kind == DIRECTORY and self.on_moved is not None:
                self.on_moved(node, before)

    # Shared with the user's side.

    def _place(self, path: bytes) -> tuple[Node, bytes]:
        return self.tree.place(path)

    def _entry(self, path: bytes) -> Node:
        return self.tree.entry(*self._place(path))

    def _regular(self, path: bytes) -> Node:
        node = self._entry(path)
        if node.kind != FILE:
            raise failure({SYMLINK: errno.ELOOP, DIRECTORY: errno.EISDIR}.get(node.kind, errno.EINVAL), path)
        return node

    def _make(self, path: bytes, kind: int, mode: int) -> Node:
        directory, name = self._place(path)
        if self.tree.find(directory, name) is not None:
            raise failure(errno.EEXIST, path)
        if directory.links == 0:
            raise failure(errno.ENOENT, path)
        self.tree.check_name(name)
        node = self.tree.make_node(kind, mode, directory.mount)
        self.tree.add(directory, name, node)
        self._told(directory, name, new=True)
        return node

    def _exchange(self, one: bytes, other: bytes) -> None:
        directory, name = self._place(one)
        other_directory, other_name = self._place(other)
        nodes = self.tree.entry(directory, name), self.tree.entry(other_directory, other_name)
        if not self.exchanges:
            raise failure(errno.EINVAL, one)
        self.tree.check_move(directory, name, other_directory)
        self.tree.check_move(other_directory, other_name, directory)
        if nodes[0] is nodes[1]:
            return
        for place in ((directory, name), (other_directory, other_name)):
            self.tree.drop(*place)
        self.tree.add(other_directory, other_name, nodes[0])
        self.tree.add(directory, name, nodes[1])
        for node in nodes:
            node.ctime_ns = self.tree.now()
        self._moved(directory, name, other_directory, other_name, *nodes)

    def _unlink(self, path: bytes) -> None:
        directory, name = self._place(path)
        if self.tree.entry(directory, name).kind == DIRECTORY:
            raise failure(errno.EISDIR, path)
        self.tree.remove(directory, name)
        self._told(directory, name)

    def _remove_dir(self, path: bytes) -> None:
        directory, name = self._place(path)
        node = self.tree.entry(directory, name)
        if node.kind != DIRECTORY:
            raise failure(errno.ENOTDIR, path)
        if directory.entries[name].covered_by is not None:
            raise failure(errno.EBUSY, path)
        if node.entries:
            raise failure(errno.ENOTEMPTY, path)
        self.tree.remove(directory, name)
        self._told(directory, name)

    def _set_mode(self, path: bytes, mode: int) -> None:
        directory, name = self._place(path)
        node = self.tree.entry(directory, name)
        if node.kind == SYMLINK:
            raise failure(errno.EOPNOTSUPP, path)
        node.mode, node.ctime_ns = mode, self.tree.now()
        self._told(directory, name)

    def _set_mtime(self, path: bytes, mtime_ns: int) -> None:
        directory, name = self._place(path)
        node = self.tree.entry(directory, name)
        node.mtime_ns, node.ctime_ns = mtime_ns, self.tree.now()
        self._told(directory, name)

    def _open_by_user(self, path: bytes) -> MemoryOpenFile:
        return MemoryOpenFile(self, self._regular(path), path, writable=True, by_user=True)

    def _make_other(self, path: bytes) -> Node:
        return self._make(path, OTHER, 0o644)
