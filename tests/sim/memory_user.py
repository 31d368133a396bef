"""What a simulated user does to the tree in memory: as `memory_fs`, but past the hooks, and as rename(2) and rm do."""

import errno
from abc import abstractmethod
from typing import TYPE_CHECKING

from replicad.files.fs import DIRECTORY, FILE, SYMLINK, Stat
from replicad.files.paths import PRIVATE, join
from tests.sim.memory_tree import Node, Tree, failure

if TYPE_CHECKING:
    from tests.sim.memory_fs import MemoryOpenFile


class UserSide:
    """The user's half of `MemoryFileSystem`."""

    tree: Tree

    def user_write(self, path: bytes, data: bytes, mode: int = 0o644) -> None:
        """`cat > path`: makes the file or empties it, and writes it in place, keeping its inode."""
        parent, name = self._place(path)
        if self.tree.find(parent, name) is None:
            self._make(path, FILE, mode)
        with self._open_by_user(path) as file:
            file.truncate(0)
            file.write_at(0, data)

    def user_save(self, path: bytes, data: bytes) -> None:
        """As an editor saves: a temporary file beside it, renamed over."""
        temporary = path + b"~"
        self.user_write(temporary, data)
        self.user_rename(temporary, path)

    def user_open(self, path: bytes) -> "MemoryOpenFile":
        """An existing file, open for writing for as long as the user likes; a crash of replicad does not close it."""
        return self._open_by_user(path)

    def user_write_mapped(self, path: bytes, data: bytes) -> None:
        """A write through a mapping to a page that has been written to before: no time changes, nothing is told. Or
        what a disk does that loses bits. `data` is as long as the file."""
        node = self._regular(path)
        assert len(data) == len(node.data)
        node.data[:] = data

    def user_mkdir(self, path: bytes, mode: int = 0o755) -> None:
        self._make(path, DIRECTORY, mode)

    def user_symlink(self, path: bytes, target: bytes) -> None:
        self._make(path, SYMLINK, 0o777).target = target

    def user_fifo(self, path: bytes) -> None:
        self._make_other(path)

    def user_link(self, path: bytes, new: bytes) -> None:
        """A hard link. Events of an open file come under the newer of its names."""
        node = self._regular(path)
        directory, name = self._place(new)
        if self.tree.find(directory, name) is not None:
            raise failure(errno.EEXIST, new)
        if node.mount != directory.mount:
            raise failure(errno.EXDEV, new)
        self.tree.check_name(name)
        node.links += 1
        node.ctime_ns = self.tree.now()
        self.tree.add(directory, name, node)
        self._told(directory, name, new=True)

    def user_chmod(self, path: bytes, mode: int) -> None:
        self._set_mode(path, mode)

    def user_set_mtime(self, path: bytes, mtime_ns: int) -> None:
        self._set_mtime(path, mtime_ns)

    def user_unlink(self, path: bytes) -> None:
        self._unlink(path)

    def user_rmdir(self, path: bytes) -> None:
        self._remove_dir(path)

    def user_remove_tree(self, path: bytes) -> None:
        """`rm -rf path`; of the root, everything in it (a mount point stays, emptied)."""
        if path and self._entry(path).kind != DIRECTORY:
            self._unlink(path)
            return
        for name in sorted(self.tree.directory(path).entries):
            self.user_remove_tree(join(path, name))
        if path:
            try:
                self._remove_dir(path)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise

    def user_rename(self, source: bytes, target: bytes) -> None:
        """rename(2): what is at the target is replaced, where the kinds allow it."""
        directory, name = self._place(source)
        target_directory, target_name = self._place(target)
        node = self.tree.check_move(directory, name, target_directory)
        self.tree.check_name(target_name)
        there = self.tree.find(target_directory, target_name)
        if there is node:
            return
        if there is not None:
            self._check_replaceable(node, there, target)
            if target_directory.entries[target_name].covered_by is not None:
                raise failure(errno.EBUSY, target)
            self.tree.remove(target_directory, target_name)
        self.tree.move(directory, name, target_directory, target_name)
        self._moved(directory, name, target_directory, target_name, node)

    def user_exchange(self, one: bytes, other: bytes) -> None:
        """mv --exchange."""
        self._exchange(one, other)

    def user_mount(self, path: bytes) -> None:
        self.tree.mount(path)

    def user_unmount(self, path: bytes) -> Node:
        return self.tree.unmount(path)

    def user_mount_again(self, path: bytes, mounted: Node) -> None:
        self.tree.mount_again(path, mounted)

    def read_tree(self, private: bool = False) -> dict[bytes, tuple[Stat, bytes]]:
        """Every entry by path, with a file's content or a symlink's target; past the hooks, and without `.replicad`
        unless asked for. For comparing trees."""
        found: dict[bytes, tuple[Stat, bytes]] = {}
        waiting = [(b"", self.tree.root)]
        while waiting:
            path, directory = waiting.pop()
            for name in directory.entries:
                if not private and not path and name == PRIVATE:
                    continue
                node = self.tree.entry(directory, name)
                found[join(path, name)] = (node.stat(), bytes(node.data) if node.kind == FILE else node.target)
                if node.kind == DIRECTORY:
                    waiting.append((join(path, name), node))
        return dict(sorted(found.items()))

    def _check_replaceable(self, node: Node, there: Node, target: bytes) -> None:
        if there.kind == DIRECTORY and node.kind != DIRECTORY:
            raise failure(errno.EISDIR, target)
        if there.kind != DIRECTORY and node.kind == DIRECTORY:
            raise failure(errno.ENOTDIR, target)
        if there.entries:
            raise failure(errno.ENOTEMPTY, target)

    # From `MemoryFileSystem`.

    @abstractmethod
    def _place(self, path: bytes) -> tuple[Node, bytes]: ...
    @abstractmethod
    def _entry(self, path: bytes) -> Node: ...
    @abstractmethod
    def _regular(self, path: bytes) -> Node: ...
    @abstractmethod
    def _make(self, path: bytes, kind: int, mode: int) -> Node: ...
    @abstractmethod
    def _make_other(self, path: bytes) -> Node: ...
    @abstractmethod
    def _exchange(self, one: bytes, other: bytes) -> None: ...
    @abstractmethod
    def _unlink(self, path: bytes) -> None: ...
    @abstractmethod
    def _remove_dir(self, path: bytes) -> None: ...
    @abstractmethod
    def _set_mode(self, path: bytes, mode: int) -> None: ...
    @abstractmethod
    def _set_mtime(self, path: bytes, mtime_ns: int) -> None: ...
    @abstractmethod
    def _open_by_user(self, path: bytes) -> "MemoryOpenFile": ...
    @abstractmethod
    def _told(self, directory: Node, name: bytes, new: bool = False) -> None: ...
    @abstractmethod
    def _moved(self, one: Node, one_name: bytes, other: Node, other_name: bytes, *nodes: Node) -> None: ...
