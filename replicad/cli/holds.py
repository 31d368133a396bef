"""hold list, approve, reject; abandon."""

from __future__ import annotations

import base64
import os

from replicad.cli.calling import Options, call, show
from replicad.cli.tables import table
from replicad.ops import requests as r
from replicad.ops.text import escaped


def list_holds(options: Options) -> int:
    result = call(options, r.HoldList())
    rows = [
        (row["folder"], escaped(row["path"]), f"{row['there']} of {row['looked_for']}", escaped(row["reason"]))
        for row in result["holds"]
    ]
    return show(options, result, table(("FOLDER", "PATH", "ENTRIES THERE", "WHY"), rows) if rows else "nothing is held")


def approve(options: Options) -> int:
    result = call(options, r.HoldDecide(options.name, "approve"))
    return show(options, result, f"what is at the folder's path is the folder {result['name']}")


def reject(options: Options) -> int:
    result = call(options, r.HoldDecide(options.name, "reject"))
    return show(options, result, f"the folder {result['name']} is brought back; what differs goes to PreExisting")


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
