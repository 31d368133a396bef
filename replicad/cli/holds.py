"""hold list, approve, reject; rejoin; abandon."""

from __future__ import annotations

import base64
import os
from typing import Any

from replicad.cli.calling import Options, call, show
from replicad.cli.tables import table
from replicad.ops import requests as r
from replicad.ops.text import escaped

NAMES_SHOWN_MAX = 20
"""Of what is missing in a folder; `--json` has up to a hundred."""


def list_holds(options: Options) -> int:
    result = call(options, r.HoldList())
    rows = [
        (row["folder"], escaped(row["path"]), f"{row['there']} of {row['looked_for']}", escaped(row["reason"]))
        for row in result["holds"]
    ]
    if not rows:
        return show(options, result, "nothing is held")
    missing = [line for row in result["holds"] for line in _missing(row)]
    return show(options, result, "\n".join([table(("FOLDER", "PATH", "ENTRIES THERE", "WHY"), rows), *missing]))


def _missing(row: dict[str, Any]) -> list[str]:
    names = [escaped(path["path"] if isinstance(path, dict) else path) for path in row["missing"]]
    more = [f"  … ({len(names) - NAMES_SHOWN_MAX} or more others)"] if len(names) > NAMES_SHOWN_MAX else []
    head = [f"missing in {row['folder']}, with what was in them:"] if names else []
    return [*head, *(f"  {name}" for name in names[:NAMES_SHOWN_MAX]), *more]


def approve(options: Options) -> int:
    result = call(options, r.HoldDecide(options.name, "approve"))
    return show(options, result, f"what is at the folder's path is the folder {result['name']}")


def reject(options: Options) -> int:
    result = call(options, r.HoldDecide(options.name, "reject"))
    return show(options, result, f"the folder {result['name']} is brought back; what differs goes to PreExisting")


def rejoin(options: Options) -> int:
    result = call(options, r.Rejoin(options.name, options.primary, options.force))
    what = "what is on this disk counts" if result["primary"] else "what differs here goes to PreExisting"
    return show(options, result, f"the folder {result['name']} begins anew here; {what}")


def abandon(options: Options) -> int:
    path = os.path.abspath(os.fsencode(options.path))
    # As the user named it, but for links on the way to it: what is at the path itself may be one, or nothing.
    path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    try:
        request = r.Abandon(path.decode(), force=options.force)
    except UnicodeDecodeError:
        request = r.Abandon(path_bytes=base64.b64encode(path).decode(), force=options.force)
    result = call(options, request)
    text = f"given up: {result['kept']} files are as they are here, {result['gone']} are gone"
    return show(options, result, f"{text}; there are more: run it again" if result["more"] else text)
