"""init, invite, join, member, token."""

from __future__ import annotations

import sys

from replicad.cli.calling import Options, call, show, sources_of
from replicad.cli.tables import table
from replicad.config.values import read_seconds
from replicad.errors import UsageError
from replicad.ops import requests as r

TOKEN_LINE_MAX = 16_384


def init(options: Options) -> int:
    request = r.Init(options.name, options.group, options.listen, tuple(options.advertise), options.api)
    result = call(options, request)
    return show(options, result, f"founded the group {options.group}; this member is {options.name}")


def join(options: Options) -> int:
    token = options.token
    if token == "-":  # noqa: S105  (a sign, not a secret)
        token = sys.stdin.readline(TOKEN_LINE_MAX).strip()
        if not token:
            raise UsageError("there is no token on standard input")
    request = r.Join(token, options.name, options.listen, tuple(options.advertise), options.api)
    result = call(options, request)
    return show(options, result, f"joined the group {result['group']['name']} as {options.name}")


def invite(options: Options) -> int:
    if options.action == "list":
        return _invite_list(options)
    if options.action == "revoke":
        if not options.id:
            raise UsageError("give the token's id: see `replicad invite list`")
        result = call(options, r.InviteRevoke(options.id))
        return show(options, result, f"revoked {result['id']}")
    try:
        ttl_s = read_seconds(options.ttl)
    except ValueError as error:
        raise UsageError(f"--ttl: {error}; give for example 1h") from error
    if not 1 <= ttl_s <= 365 * 86_400:
        raise UsageError("--ttl: give a time between 1 s and 365 d")
    if not 1 <= options.uses <= 1_000:
        raise UsageError("--uses: give a number between 1 and 1000")
    result = call(options, r.Invite(ttl_s, options.uses))
    return show(options, result, result["token"])


def member_list(options: Options) -> int:
    result = call(options, r.MemberList())
    rows = [
        (
            row["name"] + (" (this one)" if row["self"] else "") + (" (lapsed)" if row["lapsed"] else ""),
            row["id"][:16],
            " ".join(row["addresses"]),
        )
        for row in result["members"]
    ]
    return show(options, result, table(("MEMBER", "ID", "ADDRESSES"), rows))


def member_remove(options: Options) -> int:
    result = call(options, r.MemberRemove(options.name))
    return show(options, result, f"removed {result['name']} ({result['id'][:16]})")


def member_lapse(options: Options) -> int:
    result = call(options, r.MemberLapse(options.name, options.force))
    return show(
        options, result, f"{result['name']} ({result['id'][:16]}) has lapsed: nobody waits for it until it is back"
    )


def token(options: Options) -> int:
    from replicad.config.loading import load
    from replicad.ops.access import read_or_create_token, rotate_token
    from replicad.ops.home import create_home

    settings = load(sources_of(options))
    create_home(settings.member.home)
    make = rotate_token if options.rotate else read_or_create_token
    value = make(settings.member.home, settings.api)
    return show(options, {"token": value}, value)


def _invite_list(options: Options) -> int:
    result = call(options, r.InviteList())
    rows = [
        (row["id"][:16], row["expires"], str(row["uses_left"]), str(len(row["used_by"])))
        for row in result["invitations"]
    ]
    return show(options, result, table(("TOKEN", "EXPIRES", "USES LEFT", "USED"), rows))
