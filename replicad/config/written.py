"""The two TOML files that replicad itself writes into the home.

`replicad.toml` is the operator's: `init` and `join` write it once, with comments, and nothing changes it afterwards.
`folders.toml` is replicad's: which folders of the group this member keeps, and where. It is a file of its own so that
commands never edit what a person wrote. A folder that is declared (`[[folder]]`) stands in it too, so that it is seen
when the declaration is taken out.

Both are written whole or not at all, also over a power cut.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from replicad.config.home import CONFIG_FILE, FOLDERS_FILE
from replicad.config.settings import DEFAULT_API, DEFAULT_LISTEN
from replicad.config.values import read_name, read_path
from replicad.engine.settings import FolderSettings
from replicad.errors import OperatorError
from replicad.net.addresses import Address
from replicad.net.durable import write_durably


@dataclass(frozen=True, slots=True)
class KeptFolder:
    """A folder of the group that this member keeps at `path`.

    `declared`: because a `[[folder]]` says so. `merge`: what only `path` has when it joins becomes part of the folder.
    `begun`: it has run here before, so a catalog that is not there was lost.
    """

    name: str
    path: Path
    declared: bool = False
    merge: bool = False
    begun: bool = False
    settings: FolderSettings = field(default_factory=FolderSettings)


def write_config(
    home: Path, *, name: str, listen: Address | None, advertise: Sequence[Address], api: Address | None
) -> None:
    """`replicad.toml` as `init` and `join` leave it; a default is written as a comment. Raises OSError."""
    advertised = ", ".join(_quoted(str(address)) for address in advertise)
    lines = [
        "# The settings of this member. Every one of them can also be given in the environment,",
        "# as REPLICAD_<SECTION>_<KEY>, which beats this file. A change takes effect when the daemon starts.",
        "",
        "[member]",
        f"name = {_quoted(name)}",
        "",
        "# Where peers connect.",
        _setting("listen", _quoted(str(listen or DEFAULT_LISTEN)), given=listen is not None),
        "",
        "# The addresses that others are told, where those that peers see are not enough (behind NAT, say).",
        _setting("advertise", f"[{advertised}]", given=bool(advertise)),
        "",
        "[api]",
        "# Where the operator API answers over HTTP; beyond loopback every request needs the token.",
        _setting("listen", _quoted(str(api or DEFAULT_API)), given=api is not None),
        "",
        "# A file that holds the token, instead of api.token beside this file.",
        '# token_file = "/run/secrets/replicad-api"',
        "",
        "# Folders are kept with `replicad folder create` and `folder join`, or declared here:",
        "# [[folder]]",
        '# name = "docs"',
        '# path = "/srv/docs"',
        "",
    ]
    write_durably(home / CONFIG_FILE, "\n".join(lines), 0o644)


def read_kept(home: Path) -> tuple[KeptFolder, ...]:
    """What `folders.toml` says, by name; OperatorError where it cannot be read."""
    path = home / FOLDERS_FILE
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        kept = [_kept(table) for table in content.get("folder", [])]
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, msgspec.MsgspecError) as error:
        raise OperatorError(f"{path} cannot be used ({error}): put it back from a backup") from error
    return tuple(sorted(kept, key=lambda folder: folder.name))


def write_kept(home: Path, folders: Iterable[KeptFolder]) -> None:
    """Raises OSError."""
    lines = ["# Written by replicad: the folders of the group that this member keeps. Use `replicad folder ...`."]
    for folder in sorted(folders, key=lambda folder: folder.name):
        lines += ["", "[[folder]]", f"name = {_quoted(folder.name)}", f"path = {_quoted(str(folder.path))}"]
        lines += [f"{key} = true" for key in ("declared", "merge", "begun") if getattr(folder, key)]
        set_here, default = msgspec.structs.asdict(folder.settings), FolderSettings()
        lines += [f"{key} = {value}" for key, value in set_here.items() if value != getattr(default, key)]
    write_durably(home / FOLDERS_FILE, "\n".join([*lines, ""]))


def _kept(table: dict[str, object]) -> KeptFolder:
    declared, merge, begun = (table.get(key, False) is True for key in ("declared", "merge", "begun"))
    settings = msgspec.convert(
        {key: table[key] for key in FolderSettings.__struct_fields__ if key in table}, FolderSettings
    )
    return KeptFolder(read_name(table["name"]), read_path(table["path"]), declared, merge, begun, settings)


def _setting(key: str, value: str, *, given: bool) -> str:
    return f"{key} = {value}" if given else f"# {key} = {value}"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's, and DEL is the one more that TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
