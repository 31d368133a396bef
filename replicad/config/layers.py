"""Where settings come from, each with the place to point at: a TOML file, or the environment.

A layer holds what one source gives, read but not yet combined. Reading never stops at the first mistake.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from replicad.config.schema import FOLDER, SCHEMA
from replicad.config.toml_lines import KeyPath, key_lines
from replicad.errors import UsageError

FILE_BYTES_MAX = 1_048_576
"""Of a configuration file: ten thousand folders fit; something else given by mistake does not."""
PREFIX = "REPLICAD_"
HOME_VARIABLE = "REPLICAD_HOME"
# What container engines set for a service that is itself called replicad; no operator wrote them.
_FOREIGN = re.compile(r"REPLICAD_(SERVICE_.*|PORT|PORT_\d+_.*|NAME|ENV_.*)")


@dataclass(frozen=True, slots=True)
class Mistake:
    """`where`: FILE:LINE, FILE, or the environment variable. `key`: as the operator knows it."""

    where: str
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.key}: {self.what}" if self.key else f"{self.where}: {self.what}"


class ConfigError(UsageError):
    """Every mistake that was found, one line each."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


@dataclass(frozen=True, slots=True)
class Given:
    """A value that a source gives, and where."""

    value: object
    where: str


Table = dict[str, Given]
"""Keys that are given; the key "" stands for where the table as a whole stands. The value of a wrong one is WRONG."""

WRONG = object()
"""The value of a key that is there but wrong: not also missing, and never built, since its mistake is reported."""


@dataclass(slots=True)
class Layer:
    """`folders` is None where the source says nothing of folders: then a weaker source speaks."""

    tables: dict[str, Table] = field(default_factory=dict)
    folders: list[Table] | None = None
    mistakes: list[Mistake] = field(default_factory=list)


def read_file(path: Path) -> Layer:
    """What a TOML file gives; a file that cannot be read or parsed is a layer with that one mistake."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        return Layer(mistakes=[Mistake(str(path), "", f"cannot be read: {error.strerror}")])
    if len(data) > FILE_BYTES_MAX:
        return Layer(mistakes=[Mistake(str(path), "", f"is longer than {FILE_BYTES_MAX} bytes")])
    try:
        text = data.decode()
        content = tomllib.loads(text)
    except UnicodeDecodeError:
        return Layer(mistakes=[Mistake(str(path), "", "is not UTF-8")])
    except tomllib.TOMLDecodeError as error:
        return Layer(mistakes=[_syntax_mistake(path, error)])
    return _FileReader(path, key_lines(text)).read(content)


def read_environment(environment: Mapping[str, str]) -> Layer:
    """What `REPLICAD_<SECTION>_<KEY>` give; an empty variable counts as not set.

    Folders are lists of one length: REPLICAD_FOLDER_NAME=docs,media REPLICAD_FOLDER_PATH=/srv/docs,/srv/media.
    """
    layer = Layer()
    known = {variable(section, key): (section, key) for section, keys in SCHEMA.items() for key in keys}
    folder_lists: dict[str, list[Given]] = {}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or not environment[name] or name == HOME_VARIABLE:
            continue
        if name not in known:
            if not _FOREIGN.fullmatch(name):
                layer.mistakes.append(Mistake(name, "", "there is no such setting" + _suggestion(name, known)))
            continue
        section, key = known[name]
        if section == FOLDER:
            texts = [item.strip() for item in environment[name].split(",") if item.strip()]
            folder_lists[key] = [_from_text(layer, name, FOLDER, key, text) for text in texts]
        else:
            table = layer.tables.setdefault(section, {"": Given(None, name)})
            table[key] = _from_text(layer, name, section, key, environment[name])
    _folders_from_lists(layer, folder_lists)
    return layer


def variable(section: str, key: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{section}_{key}".upper()


class _FileReader:
    def __init__(self, path: Path, lines: Mapping[KeyPath, int]) -> None:
        self._path = path
        self._lines = lines
        self._layer = Layer()

    def read(self, content: Mapping[str, object]) -> Layer:
        for section, table in content.items():
            if section not in SCHEMA:
                what = "there is no such section" + _suggestion(section, SCHEMA)
                self._mistake((section,), section, what)
            elif section == FOLDER:
                self._read_folders(table)
            elif not isinstance(table, dict):
                self._mistake((section,), section, f"is a section: write [{section}]")
            else:
                self._layer.tables[section] = self._table((section,), section, table)
        return self._layer

    def _read_folders(self, tables: object) -> None:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._mistake((FOLDER,), FOLDER, "is a list of folders: write [[folder]]")
            return
        self._layer.folders = []
        for number, table in enumerate(tables):
            self._layer.folders.append(self._table((FOLDER, number), FOLDER, table))

    def _table(self, path: KeyPath, section: str, table: Mapping[str, object]) -> Table:
        read: Table = {"": Given(None, self._where(path))}
        for key, value in table.items():
            here = (*path, key)
            if key not in SCHEMA[section]:
                self._mistake(here, f"{section}.{key}", "there is no such setting" + _suggestion(key, SCHEMA[section]))
                continue
            kind = SCHEMA[section][key].kind
            try:
                read[key] = Given(kind.read(value), self._where(here))
            except ValueError as error:
                read[key] = Given(WRONG, self._where(here))
                self._mistake(here, f"{section}.{key}", f"{error}; give for example {kind.example}")
        return read

    def _mistake(self, path: KeyPath, key: str, what: str) -> None:
        self._layer.mistakes.append(Mistake(self._where(path), key, what))

    def _where(self, path: KeyPath) -> str:
        """FILE:LINE of the key, or of the nearest thing around it that has a line of its own."""
        while path and path not in self._lines:
            if (*path, 0) in self._lines:  # a whole array of tables: its first element
                path = (*path, 0)
            else:
                path = path[:-1]
        return f"{self._path}:{self._lines[path]}" if path else str(self._path)


def _from_text(layer: Layer, name: str, section: str, key: str, text: str) -> Given:
    kind = SCHEMA[section][key].kind
    try:
        return Given(kind.read_text(text), name)
    except ValueError as error:
        layer.mistakes.append(Mistake(name, "", f"{error}; give for example {kind.example.strip('[]')}"))
        return Given(WRONG, name)


def _folders_from_lists(layer: Layer, lists: Mapping[str, list[Given]]) -> None:
    if not lists:
        return
    lengths = {len(values) for values in lists.values()}
    if len(lengths) > 1:
        names = " and ".join(variable(FOLDER, key) for key in lists)
        layer.mistakes.append(Mistake(names, "", "must have the same number of items"))
        return
    layer.folders = [
        {"": Given(None, next(iter(row)).where), **dict(zip(lists, row, strict=True))}
        for row in zip(*lists.values(), strict=True)
    ]


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"


def _syntax_mistake(path: Path, error: tomllib.TOMLDecodeError) -> Mistake:
    """tomllib says `what (at line 3, column 5)`."""
    match = re.fullmatch(r"(?P<what>.*) \(at line (?P<line>\d+), column \d+\)", str(error))
    if match is None:
        return Mistake(str(path), "", f"is no TOML: {error}")
    return Mistake(f"{path}:{match['line']}", "", f"is no TOML: {match['what']}")
