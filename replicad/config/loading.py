"""Combines the layers into settings: the environment beats the file, which beats the home's replicad.toml.

A stronger source wins key by key; of folders it gives the whole list. Every mistake of every source is reported at
once. Nothing is written, and nothing but the configuration files is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicad.config.home import CONFIG_FILE, default_home
from replicad.config.layers import (
    HOME_VARIABLE,
    WRONG,
    ConfigError,
    Given,
    Layer,
    Mistake,
    Table,
    read_environment,
    read_file,
    variable,
)
from replicad.config.schema import FOLDER, REQUIRED
from replicad.config.settings import (
    ApiSettings,
    DeclaredFolder,
    GroupSettings,
    LogSettings,
    MemberSettings,
    Settings,
)
from replicad.config.values import read_path
from replicad.engine.settings import FolderSettings


@dataclass(frozen=True, slots=True)
class Sources:
    """`home` and `file` as given on the command line; they beat everything."""

    environment: Mapping[str, str]
    home: Path | None = None
    file: Path | None = None


def find_home(sources: Sources) -> Path:
    """Which home is meant, without reading more than needed: for commands that only talk to the daemon."""
    if sources.home is not None:
        return Path(os.path.abspath(sources.home))
    environment = read_environment(sources.environment)
    mistakes = [mistake for mistake in environment.mistakes if mistake.where == variable("member", "home")]
    home = _home_of(sources, [environment, *([read_file(sources.file)] if sources.file else [])], mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return home


def load(sources: Sources) -> Settings:
    """All settings; raises ConfigError with every mistake."""
    layers = [read_environment(sources.environment)]
    if sources.file is not None:
        layers.append(read_file(sources.file))
    mistakes: list[Mistake] = []
    home = _home_of(sources, layers, mistakes)
    own = home / CONFIG_FILE
    if _is_there(own) and not (sources.file is not None and _same_file(own, sources.file)):
        layers.append(read_file(own))
    for layer in layers:
        mistakes.extend(layer.mistakes)
    tables = {section: _combined(layers, section) for section in ("member", "api", "group", "log")}
    folders = next((layer.folders for layer in layers if layer.folders is not None), [])
    for section, table in (("group", tables["group"]), *((FOLDER, folder) for folder in folders)):
        _check_required(section, table, mistakes)
    _check_folders(folders, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return _build(home, tables, folders)


def _build(home: Path, tables: Mapping[str, Table], folders: Sequence[Table]) -> Settings:
    group = _values(tables["group"])
    member = _values(tables["member"])
    member["home"] = home
    if "offline_limit" in member:
        member["offline_limit_ms"] = member.pop("offline_limit") * 1000
    return Settings(
        member=MemberSettings(**member),
        api=ApiSettings(**_values(tables["api"])),
        group=GroupSettings(**group) if group else None,
        folders=tuple(_declared(_values(folder)) for folder in folders),
        log=LogSettings(**_values(tables["log"])),
    )


def _declared(values: dict[str, Any]) -> DeclaredFolder:
    return DeclaredFolder(
        values["name"], values["path"], folder_settings(values, FolderSettings()), values.get("conflicts")
    )


def folder_settings(values: Mapping[str, Any], before: FolderSettings) -> FolderSettings:
    """`before`, with those of FOLDER_SETTINGS that are among `values`."""
    return FolderSettings(
        quota_bytes=values.get("staging_quota", before.quota_bytes),
        scan_interval_ms=values.get("scan_interval", before.scan_interval_ms // 1000) * 1000,
        preserved_quota_bytes=values.get("preserved_quota", before.preserved_quota_bytes),
        preserved_min_age_ms=values.get("preserved_min_age", before.preserved_min_age_ms // 1000) * 1000,
        tombstone_lifetime_ms=values.get("tombstone_lifetime", before.tombstone_lifetime_ms // 1000) * 1000,
        scan_deletions_max=values.get("scan_deletions_max", before.scan_deletions_max),
    )


def _values(table: Table) -> dict[str, Any]:
    return {key: given.value for key, given in table.items() if key}


def _combined(layers: Sequence[Layer], section: str) -> Table:
    """Strongest first: the first layer that gives a key wins it."""
    combined: Table = {}
    for layer in layers:
        for key, given in layer.tables.get(section, {}).items():
            combined.setdefault(key, given)
    return combined


def _home_of(sources: Sources, layers: Sequence[Layer], mistakes: list[Mistake]) -> Path:
    """--home, REPLICAD_HOME, `member.home` of the environment or file, else the platform's default."""
    short = sources.environment.get(HOME_VARIABLE, "")
    if sources.home is not None:
        return Path(os.path.abspath(sources.home))
    long = layers[0].tables.get("member", {}).get("home")
    if short:
        try:
            home = read_path(short)
        except ValueError as error:
            mistakes.append(Mistake(HOME_VARIABLE, "", str(error)))
            return default_home(sources.environment)
        if long is not None and long.value != home:
            what = f"differs from {variable('member', 'home')}; set one of them"
            mistakes.append(Mistake(HOME_VARIABLE, "", what))
        return home
    given = _combined(layers, "member").get("home")
    if given is None or given.value is WRONG:
        return default_home(sources.environment)
    assert isinstance(given.value, Path)
    return given.value


def _check_required(section: str, table: Table, mistakes: list[Mistake]) -> None:
    if table:
        missing = [key for key in REQUIRED[section] if key not in table]
        mistakes.extend(Mistake(table[""].where, f"{section}.{key}", "is missing") for key in missing)


def _check_folders(folders: Sequence[Table], mistakes: list[Mistake]) -> None:
    """Names and paths are unique, and no folder lies in another one."""
    names: dict[object, str] = {}
    paths: list[tuple[Path, str]] = []
    for folder in folders:
        name, path = folder.get("name"), folder.get("path")
        if name is not None and name.value is not WRONG:
            if name.value in names:
                mistakes.append(Mistake(name.where, "folder.name", f"{name.value!r} is taken at {names[name.value]}"))
            names[name.value] = name.where
        if path is not None and path.value is not WRONG:
            _check_path(path, paths, mistakes)


def _check_path(given: Given, paths: list[tuple[Path, str]], mistakes: list[Mistake]) -> None:
    path = given.value
    assert isinstance(path, Path)
    for other, where in paths:
        if path == other or path in other.parents or other in path.parents:
            mistakes.append(Mistake(given.where, "folder.path", f"{path} and {other} ({where}) lie in each other"))
    paths.append((path, given.where))


def _is_there(path: Path) -> bool:
    """Also where it may not be looked at: reading it then says why."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
