"""What an operator can have done: one function for each request, in the running daemon or on the home alike.

Each raises OperatorError (or a subclass) with one line that says what, where, why and what to do, and returns what is
printed or sent as JSON. What is changed in the hierarchy is committed before it is told.
"""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from replicad.config.home import CONFIG_FILE
from replicad.config.loading import folder_settings
from replicad.config.schema import FOLDER, FOLDER_SETTINGS, GROUP_FOLDER_SETTINGS, SCHEMA
from replicad.config.values import read_address, read_dialable, read_name
from replicad.config.written import KeptFolder, read_kept, write_config, write_kept
from replicad.core.effects import Effect
from replicad.core.hierarchy_model import CONFLICTS, Reading
from replicad.core.ids import MemberId
from replicad.core.naming import group_id_from_founder
from replicad.engine.settings import FolderSettings
from replicad.errors import OperatorError, PeerError, UsageError
from replicad.net.addresses import Address, reachable_at
from replicad.net.joining import join_by_token
from replicad.net.refusal import Code, Refused
from replicad.net.token import SECRET_BYTES, Token, decode_token, encode_token
from replicad.ops import requests as r
from replicad.ops.folders import check_root, folder_of, make_root
from replicad.ops.home import Group, write_group
from replicad.ops.joining import acquaintances, joiner_payload, open_answer
from replicad.ops.keeper import Keeper, reading_of, take_first_records
from replicad.ops.office import Office
from replicad.ops.text import path_json, rfc3339

Result = dict[str, Any]


async def init(office: Office, request: r.Init) -> Result:
    """Found a group with this member alone in it."""
    name, group_name = _name("--name", request.name), _name("--group", request.group)
    _check_no_group(office)
    _write_settings(office, request)
    own = office.identity.member_id
    group = Group(group_id_from_founder(own, group_name), group_name, name, declared=False)
    await office.enter(group)
    await office.act(lambda keeper, now_ms: _found(keeper, office, name, now_ms))
    write_group(office.home, group)
    return {"group": {"id": group.group_id.hex(), "name": group_name}, "member": {"id": own, "name": name}}


async def join(office: Office, request: r.Join) -> Result:
    """Join the group of the token's inviter, which must be running."""
    name, token = _name("--name", request.name), decode_token(request.token)
    _check_no_group(office)
    listen, advertise, _ = _addresses(request)
    settings = office.settings.member
    # The port that the system chooses (0) is told when the daemon has started.
    reachable = advertise or settings.advertise or await asyncio.to_thread(reachable_at, listen or settings.listen, ())
    try:
        joined = await join_by_token(office.identity, token, joiner_payload(name, reachable))
        group_name, records = open_answer(joined, token.group_id)
    except Refused as refusal:
        again = "; make a new one there with `replicad invite`" if refusal.code == Code.TOKEN else ""
        raise OperatorError(f"the inviter refused: {refusal}{again}") from refusal
    except PeerError as error:
        raise OperatorError(
            f"cannot reach the inviter: {error}; its daemon must be running, and be reachable from here"
        ) from error
    own = office.identity.member_id
    members = acquaintances(joined, reading_of(token.group_id, records), own)
    await asyncio.to_thread(take_first_records, office.home, records, office.now_ms())
    _write_settings(office, request)
    group = Group(token.group_id, group_name, name, declared=False, members=members)
    write_group(office.home, group)
    await office.enter(group)
    return {
        "group": {"id": group.group_id.hex(), "name": group_name},
        "member": {"id": own, "name": name},
        "inviter": {"id": joined.member_id, "address": str(joined.address)},
    }


async def invite(office: Office, request: r.Invite) -> Result:
    """Make a join token; only its book is kept here."""
    group = _group(office)
    addresses = await office.addresses()
    secret = secrets.token_bytes(SECRET_BYTES)
    expires_ms = office.now_ms() + request.ttl_s * 1000
    token = encode_token(Token(group.group_id, office.identity.member_id, secret, addresses, expires_ms))
    book = await office.act(lambda keeper, now_ms: (keeper.invite(secret, expires_ms, request.uses, now_ms), ()))
    return {"token": token, "id": book.token_id.hex(), "expires": rfc3339(expires_ms), "uses": request.uses}


async def invite_list(office: Office, request: r.InviteList) -> Result:
    books = await office.look(lambda keeper: keeper.invitations(office.now_ms()))
    return {
        "invitations": [
            {
                "id": book.token_id.hex(),
                "expires": rfc3339(book.expires_ms),
                "uses_left": book.uses_max - len(book.used_by),
                "used_by": list(book.used_by),
            }
            for book in books
        ]
    }


async def invite_revoke(office: Office, request: r.InviteRevoke) -> Result:
    return {"id": await office.act(lambda keeper, now_ms: (keeper.revoke_invitation(request.id, now_ms), ()))}


async def member_list(office: Office, request: r.MemberList) -> Result:
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    own = office.identity.member_id
    return {
        "members": [
            {
                "id": member,
                "name": info.name,
                "addresses": list(info.addresses),
                "self": member == own,
                "lapsed": rfc3339(reading.lapsed[member].time_ms) if member in reading.lapsed else None,
            }
            for member, info in sorted(reading.members.items(), key=lambda item: (item[1].name, item[0]))
        ]
    }


async def member_remove(office: Office, request: r.MemberRemove) -> Result:
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    member = find_member(reading, request.name)
    if member == office.identity.member_id:
        raise OperatorError("this is the member that you are asking: remove it from another one")
    await _change(office, lambda keeper, now_ms: keeper.hierarchy.remove_member(member, now_ms))
    return {"id": member, "name": reading.members[member].name}


async def member_lapse(office: Office, request: r.MemberLapse) -> Result:
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    member = find_member(reading, request.name)
    await _change(office, lambda keeper, now_ms: keeper.hierarchy.lapse_member(member, now_ms, force=request.force))
    return {"id": member, "name": reading.members[member].name}


async def folder_create(office: Office, request: r.FolderCreate) -> Result:
    name = _name("NAME", request.name)
    kept = read_kept(office.home)
    path = check_root(request.path, kept, office.home)
    _check_not_kept(name, kept)
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    if name in reading.folders_by_name:
        raise OperatorError(f"there is a folder {name} already: join it with `replicad folder join {name} {path}`")
    await asyncio.to_thread(make_root, path)
    folder = await office.act(lambda keeper, now_ms: keeper.hierarchy.create_folder(name, now_ms))
    await _begin_clean(office, folder)
    _keep(office, [*kept, KeptFolder(name, path)])
    await office.kept_changed()
    return {"id": folder.hex(), "name": name, "path": str(path)}


async def folder_join(office: Office, request: r.FolderJoin) -> Result:
    name = _name("NAME", request.name)
    kept = read_kept(office.home)
    path = check_root(request.path, kept, office.home)
    _check_not_kept(name, kept)
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    _check_known(name, reading)
    await asyncio.to_thread(make_root, path)
    folder = await office.act(lambda keeper, now_ms: keeper.hierarchy.join_folder(name, now_ms))
    await _begin_clean(office, folder)
    _keep(office, [*kept, KeptFolder(name, path, merge=request.merge)])
    await office.kept_changed()
    return {"id": folder.hex(), "name": name, "path": str(path)}


async def folder_list(office: Office, request: r.FolderList) -> Result:
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    kept = {folder.name: folder for folder in read_kept(office.home)}
    names = sorted({*reading.folders_by_name, *kept})
    return {"folders": [_folder_row(name, reading, kept.get(name)) for name in names]}


async def folder_set(office: Office, request: r.FolderSet) -> Result:
    """How this member keeps the folder, or what holds for it in the group; `default` takes a setting back."""
    kept = read_kept(office.home)
    here = next((folder for folder in kept if folder.name == request.name), None)
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    given = _read_settings(request.settings)
    of_group = {key: value for key, value in given.items() if key in GROUP_FOLDER_SETTINGS}
    of_member = {key: value for key, value in given.items() if key not in of_group}
    if here is None or of_group:
        _check_known(request.name, reading)
    if of_member:
        if here is None:
            raise OperatorError(f"the folder {request.name} is not kept here")
        if here.declared:
            raise OperatorError(f"the folder {request.name} is declared: change its [[folder]] in the configuration")
        here = replace(here, settings=folder_settings(of_member, here.settings))
        _keep(office, with_folder(kept, here))
    if of_group:
        policy = None if request.settings[CONFLICTS] == "default" else str(of_group[CONFLICTS])
        await _change(office, lambda keeper, now_ms: keeper.hierarchy.set_conflicts(request.name, policy, now_ms))
        reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    await office.kept_changed()
    row = _folder_row(request.name, reading, here)
    return {"name": request.name, "settings": row["settings"], "conflicts": row["conflicts"]}


async def folder_leave(office: Office, request: r.FolderLeave) -> Result:
    kept = read_kept(office.home)
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    here = next((folder for folder in kept if folder.name == request.name), None)
    if here is None:
        _check_known(request.name, reading)
        raise OperatorError(f"the folder {request.name} is not kept here")
    _check_not_declared(here)
    info = reading.folders_by_name.get(request.name)
    listed = info is not None and office.identity.member_id in info.members
    if listed and not request.now:
        await office.drain(request.name, everyone=False, timeout_s=request.timeout_s)
    if listed:
        await _change(office, lambda keeper, now_ms: keeper.hierarchy.leave_folder(request.name, now_ms))
    await _drop(office, here, info.folder if info is not None else None)
    return {"name": here.name, "path": str(here.path)}


async def folder_remove(office: Office, request: r.FolderRemove) -> Result:
    kept = read_kept(office.home)
    reading = await office.look(lambda keeper: keeper.hierarchy.reading())
    _check_known(request.name, reading)
    here = next((folder for folder in kept if folder.name == request.name), None)
    if here is not None:
        _check_not_declared(here)
        if not request.now:
            await office.drain(request.name, everyone=True, timeout_s=request.timeout_s)
    await _change(office, lambda keeper, now_ms: keeper.hierarchy.remove_folder(request.name, now_ms))
    if here is not None:
        await _drop(office, here, reading.folders_by_name[request.name].folder)
    return {"name": request.name}


async def folder_move(office: Office, request: r.FolderMove) -> Result:
    """Only where it is kept changes here: whether the directory is the folder's is told by its marker."""
    kept = read_kept(office.home)
    here = next((folder for folder in kept if folder.name == request.name), None)
    if here is None:
        _check_known(request.name, await office.look(lambda keeper: keeper.hierarchy.reading()))
        raise OperatorError(f"the folder {request.name} is not kept here")
    if here.declared:
        raise OperatorError(f"the folder {request.name} is declared: change the path of its [[folder]], and restart")
    path = check_root(request.path, [folder for folder in kept if folder is not here], office.home)
    if not path.is_dir():
        raise OperatorError(f"{path} is not there: move the directory first, then say where it is")
    _keep(office, with_folder(kept, replace(here, path=path)))
    await office.kept_changed()
    return {"name": request.name, "path": str(path)}


async def hold_list(office: Office, request: r.HoldList) -> Result:
    return {"holds": await office.holds()}


async def hold_decide(office: Office, request: r.HoldDecide) -> Result:
    await _check_kept(office, request.name)
    await office.decide(request.name, approve=request.decision == "approve")
    return {"name": request.name, "decision": request.decision}


async def rejoin(office: Office, request: r.Rejoin) -> Result:
    await _check_kept(office, request.name)
    await office.rejoin(request.name, primary=request.primary, force=request.force)
    return {"name": request.name, "primary": request.primary}


async def abandon(office: Office, request: r.Abandon) -> Result:
    folder, below = folder_of(_path_of(request), read_kept(office.home))
    done = await office.abandon(folder.name, below, force=request.force)
    return {"folder": folder.name, "path": path_json(below), "kept": done.kept, "gone": done.gone, "more": done.more}


async def wait(office: Office, request: r.Wait) -> Result:
    return await office.wait(request)


async def preserved(office: Office, request: r.OfPreserved) -> Result:
    return await office.preserved(request)


def verify(office: Office, request: r.Verify) -> AsyncGenerator[Result, None]:
    return office.verify(request)


Streamed = Callable[[Office, Any], AsyncGenerator[Result, None]]
STREAMED: dict[type[r.Request], Streamed] = {r.Verify: verify}
"""Operations whose answer comes piece by piece."""
Operation = Callable[[Office, Any], Awaitable[Result]]
OPERATIONS: dict[type[r.Request], Operation] = {
    r.Init: init,
    r.Join: join,
    r.Invite: invite,
    r.InviteList: invite_list,
    r.InviteRevoke: invite_revoke,
    r.MemberList: member_list,
    r.MemberRemove: member_remove,
    r.MemberLapse: member_lapse,
    r.FolderCreate: folder_create,
    r.FolderJoin: folder_join,
    r.FolderList: folder_list,
    r.FolderSet: folder_set,
    r.FolderLeave: folder_leave,
    r.FolderRemove: folder_remove,
    r.FolderMove: folder_move,
    r.HoldList: hold_list,
    r.HoldDecide: hold_decide,
    r.Rejoin: rejoin,
    r.Abandon: abandon,
    r.Wait: wait,
    r.PreservedList: preserved,
    r.PreservedRestore: preserved,
    r.PreservedDelete: preserved,
    r.PreservedEmpty: preserved,
}


def find_member(reading: Reading, name: str) -> MemberId:
    """By name, or by the first characters of its id where these are at least 4 and of one member alone."""
    by_name = reading.members_by_name.get(name, ())
    by_id = [member for member in reading.members if len(name) >= 4 and member.startswith(name.lower())]
    found = set(by_name) | set(by_id)
    if len(found) == 1:
        return found.pop()
    if found:
        raise OperatorError(f"{name} may be {' or '.join(sorted(member[:16] for member in found))}: give the id")
    raise OperatorError(f"there is no member {name} in the group: see `replicad member list`")


# -- steps of operations

T = TypeVar("T")


def _found(keeper: Keeper, office: Office, name: str, now_ms: int) -> tuple[None, Sequence[Effect]]:
    own = office.identity
    return None, [
        *keeper.hierarchy.put_member(own.member_id, name, own.certificate_der, now_ms),
        *keeper.bind(now_ms),
    ]


async def _change(office: Office, change: Callable[[Keeper, int], Sequence[Effect]]) -> None:
    await office.act(lambda keeper, now_ms: (None, change(keeper, now_ms)))


def _name(what: str, text: str) -> str:
    try:
        return read_name(text)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from error


def _addresses(request: r.Init | r.Join) -> tuple[Address | None, tuple[Address, ...], Address | None]:
    """--listen, --advertise and --api."""
    try:
        listen = read_address(request.listen) if request.listen is not None else None
        advertise = tuple(read_dialable(text) for text in request.advertise)
        api = read_address(request.api) if request.api is not None else None
    except ValueError as error:
        raise UsageError(str(error)) from error
    return listen, advertise, api


def _write_settings(office: Office, request: r.Init | r.Join) -> None:
    """replicad.toml, once: one that is there is the operator's and stays."""
    listen, advertise, api = _addresses(request)
    path = office.home / CONFIG_FILE
    if path.exists():
        if listen is not None or advertise or api is not None:
            raise UsageError(f"{path} is there already: set --listen, --advertise and --api in it")
        return
    try:
        write_config(office.home, name=request.name, listen=listen, advertise=advertise, api=api)
    except OSError as error:
        raise OperatorError(f"cannot write {path}: {error.strerror}") from error


def _check_no_group(office: Office) -> None:
    if office.group is not None:
        raise OperatorError(f"{office.home} belongs to the group {office.group.name} already: take another home")


def _group(office: Office) -> Group:
    if office.group is None:
        raise OperatorError(f"{office.home} belongs to no group yet: use `replicad init` or `replicad join`")
    return office.group


def _check_known(name: str, reading: Reading) -> None:
    if name not in reading.folders_by_name:
        known = ", ".join(sorted(reading.folders_by_name)) or "none yet"
        raise OperatorError(f"there is no folder {name} in the group; there are: {known}")


async def _check_kept(office: Office, name: str) -> None:
    if name not in {folder.name for folder in read_kept(office.home)}:
        _check_known(name, await office.look(lambda keeper: keeper.hierarchy.reading()))
        raise OperatorError(f"the folder {name} is not kept here")


def _check_not_kept(name: str, kept: Sequence[KeptFolder]) -> None:
    for folder in kept:
        if folder.name == name:
            raise OperatorError(f"the folder {name} is kept here already, at {folder.path}")


def _check_not_declared(folder: KeptFolder) -> None:
    if folder.declared:
        raise OperatorError(f"the folder {folder.name} is declared: take its [[folder]] out of the configuration")


def _keep(office: Office, folders: Sequence[KeptFolder]) -> None:
    try:
        write_kept(office.home, folders)
    except OSError as error:
        raise OperatorError(f"cannot write into {office.home}: {error.strerror}") from error


async def _begin_clean(office: Office, folder: bytes) -> None:
    """The catalog of an earlier folder of this name, which others took out of the group, counts for nothing."""
    await office.kept_changed()  # it has stopped
    await office.discard(folder)


async def _drop(office: Office, folder: KeptFolder, folder_id: bytes | None) -> None:
    """The folder is not kept here any more."""
    _keep(office, [other for other in read_kept(office.home) if other.name != folder.name])
    await office.kept_changed()
    if folder_id is not None:
        await office.discard(folder_id)


def _path_of(request: r.Abandon) -> bytes:
    try:
        path = base64.b64decode(request.path_bytes, validate=True) if request.path_bytes else request.path.encode()
    except ValueError as error:
        raise UsageError("path_bytes: is no base64") from error
    if not path.startswith(b"/"):
        raise UsageError("path: give an absolute path")
    return os.path.normpath(path)


def _read_settings(given: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    known = (*FOLDER_SETTINGS, *GROUP_FOLDER_SETTINGS)
    for key, text in given.items():
        if key not in known:
            raise UsageError(f"{key}: there is no such setting; there are {', '.join(known)}")
        kind = SCHEMA[FOLDER][key].kind
        try:
            values[key] = kind.read_text(SCHEMA[FOLDER][key].unset if text == "default" else text)
        except ValueError as error:
            raise UsageError(f"{key}: {error}; give for example {kind.example}") from error
    return values


def _shown_settings(settings: FolderSettings) -> Result:
    return {
        "staging_quota_bytes": settings.quota_bytes,
        "scan_interval_s": settings.scan_interval_ms // 1000,
        "preserved_quota_bytes": settings.preserved_quota_bytes,
        "preserved_min_age_s": settings.preserved_min_age_ms // 1000,
        "tombstone_lifetime_s": settings.tombstone_lifetime_ms // 1000,
        "scan_deletions_max": settings.scan_deletions_max,
    }


def _folder_row(name: str, reading: Reading, here: KeptFolder | None) -> Result:
    info = reading.folders_by_name.get(name)
    members = sorted(reading.members[member].name for member in info.members) if info is not None else []
    return {
        "id": info.folder.hex() if info is not None else None,
        "name": name,
        "path": str(here.path) if here is not None else None,
        "members": members,
        "settings": _shown_settings(here.settings) if here is not None else None,
        "conflicts": reading.conflicts(info.folder) if info is not None else None,
    }


def with_folder(kept: Sequence[KeptFolder], changed: KeptFolder) -> list[KeptFolder]:
    """`kept` with this one in the place of the one of its name."""
    return [*(folder for folder in kept if folder.name != changed.name), replace(changed)]
