"""The tree of a folder on a real disk, reached through handles.

The root is opened once, as a handle that no later rename or mount at its path changes. Every call resolves the parent
of the path it is given anew, beneath that handle and through no symlink (openat2; where the kernel or a container's
seccomp filter refuses it, component by component), and acts on a name below the parent's handle. So whatever a user
makes of the directories meanwhile, nothing is reached outside the folder.

No handle is kept over calls: one that is kept would act in a directory that has been moved away since. A call
resolves and acts within microseconds.
RACE: a parent renamed between the two steps of one call takes the action with it to its new place, still inside the
folder or, with a rename across its border by a user at that instant, into a directory that was inside just before.
Whoever needs to know looks at the result by path afterwards (I3).

A path longer than the kernel takes in one call is walked in pieces.
"""

import errno
import os
import secrets
import stat as stat_module
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from replicad.files import linux
from replicad.files.fs import DIRECTORY, FILE, SYMLINK, OpenFile, Stat
from replicad.files.paths import PRIVATE, check, join, split

_PIECE_BYTES = linux.PATH_MAX - 1


class RealOpenFile:
    """An open regular file by its descriptor."""

    def __init__(self, fd: int, features: linux.Features) -> None:
        self._fd = fd
        self._stat_device = linux.statx_device if features.statx else linux.stat_device

    def stat(self) -> Stat:
        return self._stat_device(self._fd, b"")[0]

    def read_at(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        if not data or len(data) == length:
            return data
        pieces = [data]
        got = len(data)
        while got < length and (data := os.pread(self._fd, length - got, offset + got)):
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def write_at(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            written = os.pwrite(self._fd, rest, offset)
            rest = rest[written:]
            offset += written

    def drop_cached(self) -> None:
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def set_meta(self, mode: int, mtime_ns: int) -> None:
        os.fchmod(self._fd, mode)
        os.utime(self._fd, ns=(mtime_ns, mtime_ns))

    def sync(self) -> None:
        os.fsync(self._fd)

    def is_held_for_writing(self) -> bool:
        """See `FileSystem.is_open_for_writing`."""
        return linux.is_open_for_writing(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> "RealOpenFile":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Handle(AbstractContextManager[int]):
    """A directory's descriptor for the length of one call; `keep` is one that belongs to someone else."""

    __slots__ = ("_keep", "fd")

    def __init__(self, fd: int, keep: bool) -> None:
        self.fd = fd
        self._keep = keep

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *exc: object) -> None:
        if not self._keep:
            os.close(self.fd)


class RealFileSystem:
    """`FileSystem` on a directory of this host. Usable by several threads at once, until `close`.

    `features` is given by tests alone; it is found out otherwise.
    """

    def __init__(self, root: bytes | str | Path, features: linux.Features | None = None) -> None:
        self._path = os.path.abspath(os.fsencode(root))
        # The root itself may be reached through symlinks, as its operator named it.
        self._root = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._features = linux.probe(self._root) if features is None else features
            self._stat_device = linux.statx_device if self._features.statx else linux.stat_device
            self._root_stat, self._root_device = self._stat_device(self._root, b"")
            # syncfs reports a failed write-back once per open file, from its opening on: opened now, kept.
            self._sync_fd = self._open_sync_handle()
        except BaseException:
            os.close(self._root)
            raise

    @classmethod
    def absent(cls, root: bytes | str | Path) -> "RealFileSystem":
        """Of a directory that cannot be opened now: as one that was let go of."""
        fs = cls(b"/")  # something that is always there, of which it is asked what the system can do
        fs.let_go()
        fs._path = os.path.abspath(os.fsencode(root))
        return fs

    @property
    def path(self) -> bytes:
        """Where the root was when it was opened: for people, and for the watch's messages. Never acted upon."""
        return self._path

    def current_path(self) -> bytes:
        """Where the root is now, as the table of mounts names places: free of symlinks. For comparing alone."""
        if self._root < 0:
            return self._path
        return os.readlink(b"/proc/self/fd/%d" % self._root)

    def root_in_place(self) -> bool:
        """Whether the path that the operator named still leads to the directory that is open here.

        It does not once the directory has been renamed or removed, or something has been mounted over it.
        """
        if self._root < 0:
            return False
        try:
            handle = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            there = self._stat_device(handle, b"")[0]
            return (there.inode, there.mount) == (self._root_stat.inode, self._root_stat.mount)
        finally:
            os.close(handle)

    def opened_anew(self) -> "RealFileSystem":
        return RealFileSystem(self._path, self._features)

    # Looking.

    def stat(self, path: bytes) -> Stat | None:
        if not path:
            return self._stat(self._root, b"")
        parent, name = split(path)
        try:
            with self._directory(parent) as directory:
                return self._stat(directory, name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def identify(self, path: bytes) -> tuple[int, int] | None:
        """Device and inode, as other processes' open files show them; None where nothing is there."""
        parent, name = split(path)
        try:
            with self._directory(parent) as directory:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino

    def stat_in(self, directory: bytes, name: bytes) -> tuple[Stat, Stat | None]:
        with self._directory(directory) as handle:
            itself = self._stat(handle, b"")
            try:
                return itself, self._stat(handle, name)
            except FileNotFoundError:
                return itself, None

    def list_dir(self, path: bytes) -> list[tuple[bytes, Stat]]:
        return self.read_dir(path)[1]

    def read_dir(self, path: bytes) -> tuple[Stat, list[tuple[bytes, Stat]]]:
        entries: list[tuple[bytes, Stat]] = []
        with self._directory(path, linux.O_READ_DIRECTORY) as directory:
            with os.scandir(directory) as found:
                # scandir gives text for a handle; fsencode is its exact inverse (surrogateescape).
                names = [os.fsencode(entry.name) for entry in found]
            names.sort()
            for name in names:
                try:
                    entries.append((name, self._stat(directory, name)))
                except FileNotFoundError:
                    continue  # vanished since the directory was read
            return self._stat(directory, b""), entries

    def read_link(self, path: bytes) -> bytes:
        parent, name = split(path)
        with self._directory(parent) as directory:
            return os.readlink(name, dir_fd=directory)

    def open_read(self, path: bytes) -> OpenFile:
        return self._open_file(path, os.O_RDONLY)

    def open_write(self, path: bytes) -> OpenFile:
        return self._open_file(path, os.O_RDWR)

    def is_open_for_writing(self, path: bytes) -> bool:
        try:
            file = self._open_file(path, os.O_RDONLY)
        except PermissionError:
            return False
        with file:
            return file.is_held_for_writing()

    def free_bytes(self) -> int:
        status = os.fstatvfs(self._root)
        return status.f_bavail * status.f_frsize

    def total_bytes(self) -> int:
        status = os.fstatvfs(self._root)
        return status.f_blocks * status.f_frsize

    # Changing.

    def create(self, path: bytes) -> OpenFile:
        parent, name = split(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with self._directory(parent) as directory:
            return RealOpenFile(os.open(name, flags, 0o600, dir_fd=directory), self._features)

    def make_dir(self, path: bytes, mode: int) -> None:
        parent, name = split(path)
        with self._directory(parent) as directory:
            os.mkdir(name, mode & 0o777, dir_fd=directory)  # never wider than `mode`: the umask only takes away
            linux.change_mode(directory, name, mode)

    def make_symlink(self, path: bytes, target: bytes) -> None:
        parent, name = split(path)
        with self._directory(parent) as directory:
            os.symlink(target, name, dir_fd=directory)

    def rename(self, source: bytes, target: bytes) -> None:
        source_parent, source_name = split(source)
        target_parent, target_name = split(target)
        with self._directory(source_parent) as directory:
            if target_parent == source_parent:
                linux.rename_noreplace(directory, source_name, directory, target_name)
                return
            with self._directory(target_parent) as target_directory:
                linux.rename_noreplace(directory, source_name, target_directory, target_name)

    def exchange(self, one: bytes, other: bytes) -> None:
        one_parent, one_name = split(one)
        other_parent, other_name = split(other)
        with self._directory(one_parent) as directory, self._directory(other_parent) as other_directory:
            linux.rename_exchange(directory, one_name, other_directory, other_name)

    def supports_exchange(self, directory: bytes = PRIVATE) -> bool:
        """Try it with two files of our own in a directory of ours, which are gone again when it returns.

        Only an exchange of things that are there tells: the kernel looks the names up before it asks the filesystem.
        """
        names = [join(directory, b"exchange-%s" % secrets.token_hex(8).encode()) for _ in range(2)]
        made: list[bytes] = []
        try:
            for name in names:
                self.create(name).close()
                made.append(name)
            self.exchange(*names)
        except OSError as error:
            if len(made) == len(names) and error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
                return False
            raise
        finally:
            for name in made:
                self.unlink(name)
        return True

    def unlink(self, path: bytes) -> None:
        parent, name = split(path)
        with self._directory(parent) as directory:
            os.unlink(name, dir_fd=directory)

    def remove_dir(self, path: bytes) -> None:
        parent, name = split(path)
        with self._directory(parent) as directory:
            os.rmdir(name, dir_fd=directory)

    def set_mode(self, path: bytes, mode: int) -> None:
        parent, name = split(path)
        with self._directory(parent) as directory:
            linux.change_mode(directory, name, mode)

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        parent, name = split(path)
        with self._directory(parent) as directory:
            linux.change_mtime(directory, name, mtime_ns)

    def sync_dirs(self, paths: Sequence[bytes]) -> None:
        for path in paths:
            try:
                with self._directory(path, linux.O_READ_DIRECTORY) as directory:
                    os.fsync(directory)
            except PermissionError:
                self.sync_all()  # a directory that we may write to but not read cannot be synced by itself

    def sync_all(self) -> None:
        if self._sync_fd < 0:
            self._sync_fd = self._open_sync_handle()
        if self._sync_fd < 0:
            raise PermissionError(errno.EACCES, "neither the root nor .replicad in it can be read", self._path)
        linux.sync_filesystem(self._sync_fd)

    def filesystem_uuid(self) -> bytes | None:
        """The UUID of the filesystem in which the root lies; None where the system does not tell."""
        return linux.filesystem_uuid(self._sync_fd) if self._sync_fd >= 0 else None

    def open_directory(self, path: bytes) -> int:
        """An O_PATH handle to a directory, for the watch; the caller closes it."""
        with self._directory(path) as directory:
            return os.dup(directory)

    def let_go(self) -> None:
        self.close()  # a handle of -1 is EBADF in every call

    def close(self) -> None:
        for fd in (self._root, self._sync_fd):
            if fd >= 0:
                os.close(fd)
        self._root = self._sync_fd = -1

    # Handles.

    def _stat(self, directory: int, name: bytes) -> Stat:
        found, device = self._stat_device(directory, name)
        if found.kind == DIRECTORY and device != self._root_device and found.mount == self._root_stat.mount:
            # A subvolume of btrfs: one mount, but a device and inode numbers of its own, and no rename across.
            # Its device, negative, is no mount's id.
            return msgspec.structs.replace(found, mount=-device)
        return found

    def _directory(self, path: bytes, flags: int = linux.O_PATH_DIRECTORY) -> _Handle:
        """A handle to a directory. A symlink on the way is not a directory: ENOTDIR, never followed."""
        check(path)
        if not path and flags == linux.O_PATH_DIRECTORY:
            return _Handle(self._root, keep=True)
        pieces = _pieces(path) if self._features.openat2 else (path.split(b"/") if path else [b"."])
        opened = self._open_piece(self._root, pieces, 0, flags)
        for index in range(1, len(pieces)):
            above = opened
            try:
                opened = self._open_piece(above, pieces, index, flags)
            finally:
                os.close(above)
        return _Handle(opened, keep=False)

    def _open_piece(self, directory: int, pieces: Sequence[bytes], index: int, flags: int) -> int:
        piece = pieces[index]
        if index < len(pieces) - 1:
            flags = linux.O_PATH_DIRECTORY
        if not self._features.openat2:
            return os.open(piece, flags, dir_fd=directory)  # one component, O_NOFOLLOW
        try:
            return linux.open_beneath(directory, piece, flags)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), piece) from error
            if error.errno == errno.EXDEV:  # moved out of the root while it was being resolved
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), piece) from error
            raise

    def _open_file(self, path: bytes, access: int) -> RealOpenFile:
        parent, name = split(path)
        with self._directory(parent) as directory:
            # Looked at first: opening a fifo would wake its writer, opening a device may do anything.
            _require_file(self._stat(directory, name).kind, path)
            fd = _open_quietly(directory, name, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                if not stat_module.S_ISREG(os.fstat(fd).st_mode):
                    raise OSError(errno.EINVAL, "not a regular file", path)
            except BaseException:
                os.close(fd)
                raise
            return RealOpenFile(fd, self._features)

    def _open_sync_handle(self) -> int:
        for path in (b"", PRIVATE):
            try:
                return self._open_piece(self._root, [path or b"."], 0, linux.O_READ_DIRECTORY)
            except (PermissionError, FileNotFoundError, NotADirectoryError):
                continue
        return -1


def _pieces(path: bytes) -> list[bytes]:
    """A path cut at slashes into pieces that the kernel takes; each name that is too long is a piece by itself."""
    pieces: list[bytes] = []
    while len(path) > _PIECE_BYTES:
        cut = path.rfind(b"/", 0, _PIECE_BYTES + 1)
        if cut < 0:
            cut = path.find(b"/")
        if cut < 0:
            break
        pieces.append(path[:cut])
        path = path[cut + 1 :]
    pieces.append(path or b".")
    return pieces


def _require_file(kind: int, path: bytes) -> None:
    if kind == SYMLINK:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    if kind == DIRECTORY:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if kind != FILE:
        raise OSError(errno.EINVAL, "not a regular file", path)


def _open_quietly(directory: int, name: bytes, flags: int) -> int:
    """Without an update of the access time where that is allowed: only a file's owner may ask for it (EPERM)."""
    if flags & os.O_ACCMODE == os.O_RDONLY:
        try:
            return os.open(name, flags | os.O_NOATIME, dir_fd=directory)
        except PermissionError as error:
            if error.errno != errno.EPERM:
                raise
    return os.open(name, flags, dir_fd=directory)
