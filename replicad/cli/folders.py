"""folder create, join, list, set, leave, remove."""

from __future__ import annotations

import os

from replicad.cli.calling import Options, call, show
from replicad.cli.tables import table
from replicad.errors import UsageError
from replicad.ops import requests as r
from replicad.ops.text import escaped

ANSWER_AFTER_DRAIN_S = 30.0
"""Beyond the time that draining may take."""


def create(options: Options) -> int:
    result = call(options, r.FolderCreate(options.name, os.path.abspath(options.path)))
    return show(options, result, f"created the folder {result['name']}, kept at {escaped(result['path'])}")


def join(options: Options) -> int:
    result = call(options, r.FolderJoin(options.name, os.path.abspath(options.path), options.merge))
    return show(options, result, f"joined the folder {result['name']}, kept at {escaped(result['path'])}")


def list_folders(options: Options) -> int:
    result = call(options, r.FolderList())
    rows = [(row["name"], escaped(row["path"] or "-"), ", ".join(row["members"])) for row in result["folders"]]
    return show(options, result, table(("FOLDER", "KEPT HERE AT", "MEMBERS"), rows))


def change(options: Options) -> int:
    settings = {}
    for text in options.settings:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"{text!r} is no KEY=VALUE")
        settings[key] = value
    result = call(options, r.FolderSet(options.name, settings))
    return show(options, result, f"changed the folder {options.name}")


def move(options: Options) -> int:
    result = call(options, r.FolderMove(options.name, os.path.abspath(options.path)))
    return show(options, result, f"the folder {result['name']} is kept at {escaped(result['path'])}")


def leave(options: Options) -> int:
    request = r.FolderLeave(options.name, options.now, options.timeout)
    result = call(options, request, timeout_s=options.timeout + ANSWER_AFTER_DRAIN_S)
    return show(options, result, f"left the folder {options.name}; its files stay at {escaped(result['path'])}")


def remove(options: Options) -> int:
    request = r.FolderRemove(options.name, options.now, options.timeout)
    result = call(options, request, timeout_s=options.timeout + ANSWER_AFTER_DRAIN_S)
    return show(options, result, f"took the folder {options.name} out of the group; the files stay where they are")
