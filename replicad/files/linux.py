"""System calls of Linux that Python's `os` lacks: openat2, statx, renameat2, fchmodat2, utimensat, syncfs, ioprio_set,
an ioctl.

The only module with platform code for the tree (the watch has its own in `watch`). Every function takes a directory
handle and a name below it, never an absolute path. `ctypes.CDLL` releases the interpreter's lock during a call, so a
call that blocks on the disk blocks its own thread only; `use_errno` keeps the errno of the calling thread.

Old kernels answer ENOSYS to some of these, and the seccomp filters of some container engines EPERM; `probe` finds out
once, and the caller takes the other way (`Features`).
"""

import ctypes
import errno
import fcntl
import os
import platform
import signal
import stat as stat_module
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from replicad.files.fs import DIRECTORY, FILE, OTHER, SYMLINK, Stat

PATH_MAX = 4096
"""The kernel takes at most this many bytes of path in one call, the closing NUL among them."""

O_PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
O_READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_OPENAT2 = 437
_FCHMODAT2 = 452
_NUMBERS = {
    "x86_64": {"renameat2": 316, "statx": 332, "ioprio_set": 251},
    "i686": {"renameat2": 353, "statx": 383, "ioprio_set": 289},
    "armv7l": {"renameat2": 382, "statx": 397, "ioprio_set": 314},
    "ppc64le": {"renameat2": 357, "statx": 383, "ioprio_set": 273},
    "s390x": {"renameat2": 347, "statx": 379, "ioprio_set": 282},
}
_NUMBERS_GENERIC = {"renameat2": 276, "statx": 291, "ioprio_set": 30}
"""Calls that came before Linux 5.1 have a number per architecture; later ones (437, 452) the same on every one."""

_RESOLVE = 0x08 | 0x04 | 0x02  # BENEATH, NO_SYMLINKS, NO_MAGICLINKS
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_UTIME_OMIT = (1 << 30) - 2

_F_SETSIG = 10
_IOPRIO_WHO_PROCESS = 1
_IOPRIO_IDLE = 3 << 13
_NICE_MAX = 19

_STATX_MNT_ID = 0x1000
_STATX_MNT_ID_UNIQUE = 0x4000  # since 6.8; asked for first because the short ids are used again after an unmount
_STATX_BTIME = 0x800
_STATX_MASK = 0x7FF | _STATX_BTIME | _STATX_MNT_ID | _STATX_MNT_ID_UNIQUE
_STATX_RESULT = struct.Struct("=I12xI8xH2xQQ32xqI4xqI4xqI4x8xIIQ")
"""mask, nlink, mode, ino, size; seconds and nanoseconds of btime, ctime, mtime; major and minor of dev; mount id."""
_StatxBuffer = ctypes.c_char * 256

_FS_IOC_GETFSUUID = 0x40111500 if platform.machine().startswith(("ppc", "mips", "sparc")) else 0x80111500
"""_IOR(0x15, 0, struct fsuuid2 {u8 length; u8 uuid[16];}), since Linux 6.9."""

_KINDS = {stat_module.S_IFREG: FILE, stat_module.S_IFDIR: DIRECTORY, stat_module.S_IFLNK: SYMLINK}


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_libc = ctypes.CDLL(None, use_errno=True)


def _by_name(name: str, *argtypes: Any) -> Callable[..., int]:
    function = _libc[name]
    function.argtypes = argtypes
    function.restype = ctypes.c_int
    return function


def _by_number(number: int, *argtypes: Any) -> Callable[..., int]:
    # `_libc[…]`, unlike `_libc.…`, makes a new function object each time, with argument types of its own.
    function = _libc["syscall"]
    function.argtypes = (ctypes.c_long, *argtypes)
    function.restype = ctypes.c_long

    def call(*arguments: Any) -> int:
        result: int = function(number, *arguments)
        return result

    return call


def _by_name_or_number(name: str, *argtypes: Any) -> Callable[..., int]:
    """musl has a wrapper for neither of the two calls this is used for."""
    if hasattr(_libc, name):
        return _by_name(name, *argtypes)
    return _by_number(_NUMBERS.get(platform.machine(), _NUMBERS_GENERIC)[name], *argtypes)


_Int, _UInt, _Path = ctypes.c_int, ctypes.c_uint, ctypes.c_char_p
_openat2 = _by_number(_OPENAT2, _Int, _Path, ctypes.POINTER(_OpenHow), ctypes.c_size_t)
_fchmodat2 = _by_number(_FCHMODAT2, _Int, _Path, _UInt, _Int)
_statx = _by_name_or_number("statx", _Int, _Path, _Int, _UInt, _StatxBuffer)
_renameat2 = _by_name_or_number("renameat2", _Int, _Path, _Int, _Path, _UInt)
_ioprio_set = _by_name_or_number("ioprio_set", _Int, _Int, _Int)
_utimensat = _by_name("utimensat", _Int, _Path, ctypes.POINTER(_Timespec), _Int)
_syncfs = _by_name("syncfs", _Int)


def _error(name: bytes) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), name)


@dataclass(frozen=True, slots=True)
class Features:
    """What this kernel, under this seccomp filter, lets us call. Neither depends on the filesystem."""

    openat2: bool
    statx: bool


def probe(directory: int) -> Features:
    """Try both calls on an open directory. ENOSYS and EPERM are refusals; any other error is raised."""
    refusals = (errno.ENOSYS, errno.EPERM)
    has_openat2 = has_statx = True
    try:
        os.close(open_beneath(directory, b".", O_PATH_DIRECTORY))
    except OSError as error:
        if error.errno not in refusals:
            raise
        has_openat2 = False
    try:
        statx_device(directory, b"")
    except OSError as error:
        if error.errno not in refusals:
            raise
        has_statx = False
    return Features(openat2=has_openat2, statx=has_statx)


def open_beneath(directory: int, path: bytes, flags: int) -> int:
    """openat2: no component of `path` may be a symlink or lead above `directory`. At most PATH_MAX - 1 bytes."""
    how = _OpenHow(flags, 0, _RESOLVE)
    handle = _openat2(directory, path, how, ctypes.sizeof(how))
    if handle < 0:
        raise _error(path)
    return handle


def statx_device(directory: int, name: bytes) -> tuple[Stat, int]:
    """The entry `name` of a directory, or with b"" what the handle itself is, and the number of its device."""
    buffer = _StatxBuffer()
    flags = _AT_SYMLINK_NOFOLLOW if name else _AT_SYMLINK_NOFOLLOW | _AT_EMPTY_PATH
    if _statx(directory, name, flags, _STATX_MASK, buffer) < 0:
        raise _error(name)
    mask, links, mode, inode, size, bs, bn, cs, cn, ms, mn, major, minor, mount = _STATX_RESULT.unpack_from(buffer)
    kind = _KINDS.get(mode & 0o170000, OTHER)
    device = os.makedev(major, minor)
    found = Stat(
        kind,
        inode,
        size if kind in (FILE, SYMLINK) else 0,
        ms * 1_000_000_000 + mn,
        cs * 1_000_000_000 + cn,
        bs * 1_000_000_000 + bn if mask & _STATX_BTIME else 0,
        mode & 0o7777,
        links,
        mount if mask & (_STATX_MNT_ID | _STATX_MNT_ID_UNIQUE) else device,
    )
    return found, device


def stat_device(directory: int, name: bytes) -> tuple[Stat, int]:
    """As `statx_device`, where statx is refused: no birth time, and the device in the place of the mount."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False) if name else os.fstat(directory)
    kind = _KINDS.get(stat_module.S_IFMT(status.st_mode), OTHER)
    found = Stat(
        kind,
        status.st_ino,
        status.st_size if kind in (FILE, SYMLINK) else 0,
        status.st_mtime_ns,
        status.st_ctime_ns,
        0,
        status.st_mode & 0o7777,
        status.st_nlink,
        status.st_dev,
    )
    return found, status.st_dev


def rename_noreplace(source_directory: int, source: bytes, target_directory: int, target: bytes) -> None:
    if _renameat2(source_directory, source, target_directory, target, _RENAME_NOREPLACE) < 0:
        raise _error(source)


def rename_exchange(one_directory: int, one: bytes, other_directory: int, other: bytes) -> None:
    if _renameat2(one_directory, one, other_directory, other, _RENAME_EXCHANGE) < 0:
        raise _error(one)


def change_mode(directory: int, name: bytes, mode: int) -> None:
    """chmod of an entry that is not a symlink (EOPNOTSUPP if it is), needing no right to read it."""
    if _fchmodat2(directory, name, mode, _AT_SYMLINK_NOFOLLOW) == 0:
        return
    error = _error(name)
    if error.errno not in (errno.ENOSYS, errno.EPERM):
        raise error
    # Before Linux 6.6, or refused by seccomp: through a handle. A true EPERM comes out of this one too.
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if stat_module.S_ISLNK(os.fstat(handle).st_mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), name)
        os.chmod(b"/proc/self/fd/%d" % handle, mode)
    finally:
        os.close(handle)


def change_mtime(directory: int, name: bytes, mtime_ns: int) -> None:
    """The mtime of the entry itself, also of a symlink; the access time stays."""
    times = (_Timespec * 2)()
    times[0].nanoseconds = _UTIME_OMIT
    times[1].seconds, times[1].nanoseconds = divmod(mtime_ns, 1_000_000_000)
    if _utimensat(directory, name, times, _AT_SYMLINK_NOFOLLOW) < 0:
        raise _error(name)


def is_open_for_writing(handle: int) -> bool:
    """Whether anybody has the regular file behind this handle (open for reading) open for writing, or mapped so.

    A lease for reading is given only where nobody has; it is given back at once. False also where the system gives none
    to us: to who is neither the file's owner nor root, or on filesystems that have none.
    """
    # Who opens the file for writing while we have the lease waits for us, and we get a signal: not SIGIO, which kills.
    fcntl.fcntl(handle, _F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def lower_priority() -> None:
    """The calling thread takes the processor and the disk only when nobody else wants them, as far as the system lets
    it: what it does is slower than it could be, or else others are a little slower."""
    thread = threading.get_native_id()
    try:
        os.setpriority(os.PRIO_PROCESS, thread, _NICE_MAX)
    except OSError:
        pass  # refused by a container's filter
    _ioprio_set(_IOPRIO_WHO_PROCESS, thread, _IOPRIO_IDLE)  # -1 where it is refused: as above


def sync_filesystem(handle: int) -> None:
    """syncfs. An error of write-back comes out once for each open file description: keep one handle for this."""
    if _syncfs(handle) < 0:
        raise _error(b"")


def filesystem_uuid(handle: int) -> bytes | None:
    """The UUID of the filesystem in which an opened (not O_PATH) file lies; None where the system does not tell."""
    answer = bytearray(17)
    try:
        fcntl.ioctl(handle, _FS_IOC_GETFSUUID, answer)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM):
            return None
        raise
    uuid = bytes(answer[1 : 1 + answer[0]])
    return uuid if any(uuid) else None
