"""status, wait, events."""

from __future__ import annotations

import json
import sys
from typing import Any

from replicad.cli.calling import Options, call, home_of, show, show_line
from replicad.cli.client import follow, request
from replicad.cli.tables import GAP, pad, table
from replicad.ops import requests as r
from replicad.ops.text import duration_text, escaped, size_text

ANSWER_AFTER_WAIT_S = 30.0
"""Beyond the time that waiting may take."""
BLOCKED_SHOWN_MAX = 20
MISSING_SHOWN_MAX = 5
"""`hold list` has more."""

GREEN, YELLOW, RED, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
_COLOURS = {4: GREEN, 5: RED}


def status(options: Options) -> int:
    shot = request(home_of(options), "GET", "/v1/status")
    return show(options, shot, status_text(shot, colour=sys.stdout.isatty()))


def wait(options: Options) -> int:
    asked = r.Wait(options.folder, options.members, options.timeout)
    result = call(options, asked, timeout_s=options.timeout + ANSWER_AFTER_WAIT_S)
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    elif not result["done"]:
        print(f"replicad: {result['text']}", file=sys.stderr)
    return int(result["exit_status"])


def events(options: Options) -> int:
    home = home_of(options)
    for event in follow(home, "/v1/events" if options.follow else "/v1/events?follow=0"):
        if options.json:
            show_line(event)
        else:
            print(event_line(event), flush=True)
    return 0


def event_line(event: dict[str, Any]) -> str:
    parts = [event["time"]]
    if event["code"]:
        parts.append(f"[{event['code']}]")
    if event["folder"]:
        parts.append(f"folder {event['folder']}:")
    parts.append(escaped(event["text"]))
    if event["path"]:
        parts.append(f"({path_text(event['path'])})")
    return " ".join(parts)


def status_text(shot: dict[str, Any], *, colour: bool) -> str:
    """What a person wants to see first: who, with whom, which folders, and what is not well."""
    member, group = shot["member"], shot["group"]
    if group is None:
        return f"this home belongs to no group yet (member id {member['id'][:16]}): use `replicad init` or `join`"
    lines = [
        f"member {member['name']} of group {group['name']}, replicad {member['version']},"
        f" up {duration_text(member['uptime_s'])}, at {' '.join(member['addresses']) or 'no address'}",
        *_trouble(member, colour),
        *([f"lapsed since {member['lapsed']}: the others do not wait for it"] if member.get("lapsed") else []),
        "",
        *_members(shot["members"], colour),
    ]
    for folder in shot["folders"]:
        lines += ["", *_folder(folder, colour)]
    if not shot["folders"]:
        lines += ["", "no folder is kept here: use `replicad folder create` or `folder join`"]
    return "\n".join(lines)


def _trouble(member: dict[str, Any], colour: bool) -> list[str]:
    """Why the member does not run, though the daemon does; or why nothing of the group can be changed here."""
    text = member.get("trouble")
    what = "in trouble" if member["addresses"] else "stopped"
    return [_coloured(f"{what}: {escaped(text)}", RED, what, colour)] if text else []


def _members(members: list[dict[str, Any]], colour: bool) -> list[str]:
    if not members:
        return ["no other member yet: use `replicad invite`"]
    rows = []
    for row in members:
        rtt = f"{row['rtt_ms']:.1f} ms" if row["rtt_ms"] is not None else "-"
        state = "connected" if row["connected"] else "not connected"
        if row.get("lapsed") and not row["connected"]:
            state = "lapsed"
        more = "" if row["connected"] else escaped(row["error"] or "")
        if row.get("lapsed"):
            more = f"lapsed since {row['lapsed']}" + (f"; {more}" if more else "")
        seen = "" if row["connected"] else row["last_seen"] or "never in this run"
        rows.append((row["name"], state, row["address"] or "-", rtt, seen, more))
    lines = table(("MEMBER", "STATE", "ADDRESS", "RTT", "LAST SEEN", ""), rows).splitlines()
    return [
        lines[0],
        *(
            _coloured(line, GREEN if row[1] == "connected" else YELLOW, row[1], colour)
            for line, row in zip(lines[1:], rows, strict=True)
        ),
    ]


def _folder(folder: dict[str, Any], colour: bool) -> list[str]:
    state = f"{folder['state']} {folder['state_name']}"
    head = f"folder {folder['name']} at {escaped(folder['path'])}"
    lines = [_coloured(f"{head}: {state}", _COLOURS.get(folder["state"], YELLOW), state, colour)]
    if folder["scanning"]:
        lines[0] += ", scanning"
    facts = [("holds", f"{folder['objects']} objects, {size_text(folder['bytes'])}")]
    if folder["reason"]:
        facts.insert(0, ("because", escaped(folder["reason"])))
    if folder.get("held"):
        name = folder["name"]
        held = f"`replicad hold list` says what is there; `hold approve {name}` or `hold reject {name}` decides"
        facts.insert(1, ("held", held))
    if folder.get("missing"):
        names = [escaped(path["path"] if isinstance(path, dict) else path) for path in folder["missing"]]
        more = ", …" if len(names) > MISSING_SHOWN_MAX else ""
        facts.insert(2, ("missing", ", ".join(names[:MISSING_SHOWN_MAX]) + more))
    if folder.get("polled"):
        facts.append(("polled", escaped(folder["polled"])))
    facts.append(("to come in", _backlog(folder["backlog_in"])))
    for out in folder["backlog_out"]:
        as_of = "" if not out["files"] or not out["as_of"] else f" (as of {out['as_of']})"
        facts.append((f"to {out['member']}", _backlog(out) + as_of))
    if folder["only_here"]["files"]:
        only = folder["only_here"]
        facts.append(("only here", f"{only['files']} files, {size_text(only['bytes'])}: lost if this server is lost"))
    if folder["lag_s"] is not None:
        facts.append(("lag", duration_text(folder["lag_s"])))
    staging = folder["staging"]
    if staging["used_bytes"]:
        facts.append(("staging", f"{size_text(staging['used_bytes'])} of {size_text(staging['quota_bytes'])}"))
    if folder["preserved"]["files"]:
        preserved = folder["preserved"]
        facts.append(
            ("preserved", f"{preserved['files']} files, {size_text(preserved['bytes'])}: see `replicad preserved list`")
        )
    width = max(len(name) for name, _ in facts)
    lines += [f"{GAP}{pad(name, width)}{GAP}{text}" for name, text in facts]
    return lines + _blocked(folder, colour)


def _blocked(folder: dict[str, Any], colour: bool) -> list[str]:
    blocked = folder["blocked"]
    if not blocked:
        return []
    count = folder["blocked_count"]
    lines = [_coloured(f"{GAP}blocked: {count}", RED, f"blocked: {count}", colour)]
    rows = [(path_text(row["path"]), escaped(row["reason"])) for row in blocked[:BLOCKED_SHOWN_MAX]]
    lines += [f"{GAP}{GAP}{line}" for line in table(("PATH", "REASON"), rows).splitlines()[1:]]
    if count > len(rows):
        lines.append(f"{GAP}{GAP}and {count - len(rows)} more: see `replicad status --json`")
    return lines


def _backlog(backlog: dict[str, Any]) -> str:
    if not backlog["files"]:
        return "nothing"
    oldest = backlog["oldest_s"]
    since = f", for {duration_text(oldest)}" if oldest is not None else ""
    return f"{backlog['files']} files, {size_text(backlog['bytes'])}{since}"


def path_text(path: Any) -> str:
    """A path of the API for people."""
    return str(path["path"]) if isinstance(path, dict) else escaped(path)


def _coloured(line: str, sign: str, word: str, colour: bool) -> str:
    return line.replace(word, f"{sign}{word}{PLAIN}", 1) if colour else line
