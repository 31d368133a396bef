"""preserved list, restore, delete, empty."""

from __future__ import annotations

from replicad.cli.calling import Options, call, show
from replicad.cli.show import path_text
from replicad.cli.tables import table
from replicad.config.values import read_seconds
from replicad.errors import UsageError
from replicad.ops import requests as r
from replicad.ops.text import escaped, size_text

RESTORE_S = 660.0
"""For which a member may copy a file back; the daemon gives up after ten minutes."""
EMPTY_S = 3_600.0
"""For which deleting a store may take: some 20,000 files a second, fewer where they are large."""


def list_preserved(options: Options) -> int:
    result = call(options, r.PreservedList(options.folder))
    rows = [
        (
            row["id"],
            row["when"],
            f"{row['folder']}: {path_text(row['path'])}",
            size_text(row["bytes"]),
            row["written_by"] or "-",
            row["won_by"] or "-",
            " ".join(row["members"]),
            escaped(row["why"]),
        )
        for row in result["preserved"]
    ]
    heads = ("ID", "WHEN", "PATH", "SIZE", "WRITTEN BY", "WON BY", "KEPT BY", "WHY")
    lines = [table(heads, rows) if rows else "nothing is preserved"]
    lines += [
        f"{one['member']} is not in this list of {one['folder']}: {one['reason']}" for one in result["not_answering"]
    ]
    for one in result["left_off"]:
        files = "more files" if one["files"] is None else f"{one['files']} more files"
        lines.append(f"{one['member']} keeps {files} of {one['folder']} than are listed")
    return show(options, result, "\n".join(lines))


def restore(options: Options) -> int:
    result = call(options, r.PreservedRestore(_id(options), options.to), timeout_s=RESTORE_S)
    return show(options, result, f"brought back {path_text(result['path'])} on {result['member']}")


def delete(options: Options) -> int:
    result = call(options, r.PreservedDelete(tuple(options.ids)))
    return show(options, result, f"deleted {result['files']} preserved files, {size_text(result['bytes'])}")


def empty(options: Options) -> int:
    older_than_s = 0
    if options.older_than is not None:
        try:
            older_than_s = read_seconds(options.older_than)
        except ValueError as error:
            raise UsageError(f"--older-than: {error}; give for example 90d") from error
    request = r.PreservedEmpty(options.folder, options.store, older_than_s)
    result = call(options, request, timeout_s=EMPTY_S)
    text = (
        f"deleted {result['files']} files, {size_text(result['bytes'])}, from {result['store']} of {result['folder']}"
    )
    return show(options, result, text)


def _id(options: Options) -> str:
    """With --folder, MEMBER:NUMBER is enough."""
    text: str = options.id
    return f"{options.folder}:{text}" if options.folder is not None and text.count(":") == 1 else text
