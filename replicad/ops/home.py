"""The home at work: who holds it, and which group its member belongs to.

One process works on a home at a time: the daemon, or a command while no daemon runs. The lock is flock(2)'s, so the
kernel lets go of it however its holder ends; what the file says only names the holder for people.

`group.json` lies outside the catalogs, so that a member whose catalog is lost still finds its group (DESIGN section 4).
"""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from replicad.config.home import CATALOG_DIRECTORY, CONTROL_SOCKET, GROUP_FILE, LOCK_FILE
from replicad.core.ids import MEMBER_ID_CHARACTERS, MemberId
from replicad.core.naming import GROUP_ID_BYTES, GroupId
from replicad.errors import OperatorError
from replicad.net.durable import write_durably

_GROUP_FILE_VERSION = 1


DAEMON = "run"
"""The command that stays."""


class HomeBusyError(OperatorError):
    """Another process holds the home's lock. `stays`: a daemon; else a command, which is soon done with it."""

    def __init__(self, home: Path, holder: str, *, stays: bool) -> None:
        super().__init__(f"{home} is in use by {holder}: stop it first")
        self.stays = stays


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """A member as remembered outside the catalog: enough to dial it and to know it by key."""

    member_id: MemberId
    name: str
    certificate_der: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """`declared`: it follows from a secret. `name` of this member is `member_name`."""

    group_id: GroupId
    name: str
    member_name: str
    declared: bool
    members: tuple[Acquaintance, ...] = ()


class _WireMember(msgspec.Struct):
    id: str
    name: str
    certificate: str
    addresses: list[str]


class _WireGroup(msgspec.Struct):
    version: int
    id: str
    name: str
    member_name: str
    declared: bool
    members: list[_WireMember]


def create_home(home: Path) -> None:
    """The home and its catalog directory, mode 0700 where they are made here. OperatorError says why not."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / CATALOG_DIRECTORY).mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise OperatorError(f"cannot use {home} as home: it is no directory; give another --home") from error
    except OSError as error:
        raise OperatorError(
            f"cannot use {home} as home: {error.strerror}; make it writable, or give another"
        ) from error


@contextmanager
def locked(home: Path, purpose: str) -> Iterator[None]:
    """Holds the home, which exists; HomeBusyError names the process that does, if another one does.

    `purpose` is the command's name, shown to whoever is kept out.
    """
    try:
        handle = os.open(home / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(f"cannot use {home} as home: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid, purpose = _holder(handle)
            holder = f"process {pid} (replicad {purpose})" if pid else "another process"
            raise HomeBusyError(home, holder, stays=purpose == DAEMON) from error
        _name_holder(handle, purpose)
        yield
    finally:
        os.close(handle)


@contextmanager
def socket_path(home: Path) -> Iterator[str]:
    """A path of the control socket that fits into a socket address, however long the home's own path is (108 bytes)."""
    handle = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{CONTROL_SOCKET}"
    finally:
        os.close(handle)


def read_group(home: Path) -> Group | None:
    """None for a home that belongs to no group yet; OperatorError where the file cannot be used."""
    path = home / GROUP_FILE
    try:
        wire = msgspec.json.decode(path.read_bytes(), type=_WireGroup)
        if wire.version != _GROUP_FILE_VERSION:
            raise OperatorError(f"{path} was written by another version of replicad ({wire.version}): upgrade it")
        group = Group(
            bytes.fromhex(wire.id), wire.name, wire.member_name, wire.declared, tuple(map(_acquaintance, wire.members))
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, msgspec.MsgspecError) as error:
        raise OperatorError(f"{path} cannot be used ({error}): put it back from a backup") from error
    if len(group.group_id) != GROUP_ID_BYTES:
        raise OperatorError(f"{path} cannot be used (no group's id): put it back from a backup")
    return group


def write_group(home: Path, group: Group) -> None:
    """Whole or not at all. OperatorError says why not."""
    members = [
        _WireMember(
            member.member_id, member.name, base64.b64encode(member.certificate_der).decode(), list(member.addresses)
        )
        for member in group.members
    ]
    wire = _WireGroup(_GROUP_FILE_VERSION, group.group_id.hex(), group.name, group.member_name, group.declared, members)
    text = msgspec.json.format(msgspec.json.encode(wire), indent=2).decode() + "\n"
    try:
        write_durably(home / GROUP_FILE, text)
    except OSError as error:
        raise OperatorError(f"cannot write {home / GROUP_FILE}: {error.strerror}") from error


def remember(home: Path, group: Group, members: Sequence[Acquaintance]) -> Group:
    """The group with these members, written if they differ from those it had."""
    known = tuple(sorted(members, key=lambda member: member.member_id))
    if known == group.members:
        return group
    updated = Group(group.group_id, group.name, group.member_name, group.declared, known)
    write_group(home, updated)
    return updated


def _acquaintance(wire: _WireMember) -> Acquaintance:
    if len(wire.id) != MEMBER_ID_CHARACTERS:
        raise ValueError("a member's id is malformed")
    return Acquaintance(wire.id, wire.name, base64.b64decode(wire.certificate, validate=True), tuple(wire.addresses))


def _name_holder(handle: int, purpose: str) -> None:
    """A full disk does not keep anyone from holding the home: the line is only for people."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()} replicad {purpose}\n".encode(), 0)
    except OSError:
        return


def _holder(handle: int) -> tuple[int, str]:
    """Its process and its command; 0 and "" where that cannot be read.

    RACE: a holder that has not yet written its line is read as nobody, or as the one before; it is only a text, and who
    waits for a command to end looks again.
    """
    pid, _, name = os.pread(handle, 200, 0).decode(errors="replace").strip().partition(" ")
    return (int(pid), name.removeprefix("replicad ")) if pid.isdigit() else (0, "")
