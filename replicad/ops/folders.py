"""Where a folder may be kept: checks of its root path before anything is done; and in which one a path lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from replicad.config.values import read_path
from replicad.config.written import KeptFolder
from replicad.errors import OperatorError, UsageError
from replicad.ops.text import shown


def check_root(text: str, kept: Sequence[KeptFolder], home: Path) -> Path:
    """The path as it is kept. Raises UsageError for what is no path, OperatorError where a folder cannot be there.

    Symlinks above it are resolved for the comparison with other folders alone: the operator's own path is what is kept.
    """
    try:
        path = read_path(text)
    except ValueError as error:
        raise UsageError(f"PATH: {error}") from error
    if path == Path("/"):
        raise UsageError("PATH: the whole machine cannot be a folder")
    check_apart(path, kept, home)
    if path.is_symlink():
        raise OperatorError(f"{path} is a symlink to {os.readlink(path)}: give the directory itself, which stays")
    if _exists(path):
        _check_usable(path)
    return path


def check_apart(path: Path, kept: Sequence[KeptFolder], home: Path) -> None:
    """Folders and homes do not lie in each other, by whatever links they are named. Blocking. Raises OperatorError."""
    real = Path(os.path.realpath(path))
    if _nested(real, Path(os.path.realpath(home))):
        raise OperatorError(f"{path} and the home {home} lie in each other: choose another place for one of them")
    for folder in kept:
        if _nested(real, Path(os.path.realpath(folder.path))):
            raise OperatorError(
                f"{path} and the folder {folder.name} at {folder.path} lie in each other: choose another place"
            )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise OperatorError(f"{path} cannot be looked at: {error.strerror}; see to the directories above it") from error


def _check_usable(path: Path) -> None:
    """RACE: permissions may change at any time; then the folder says so itself, in state 5."""
    if not path.is_dir():
        raise OperatorError(f"{path} is no directory: give another path, or move it away")
    for right, what in ((os.R_OK | os.X_OK, "read"), (os.W_OK, "written")):
        if not os.access(path, right):
            raise OperatorError(f"{path} cannot be {what} by this user: change its owner or its permissions")


def make_root(path: Path) -> None:
    """The directory, with those above it, where it is not there. Blocking."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"cannot create the directory {path}: {error.strerror}; give another path") from error


def _nested(one: Path, other: Path) -> bool:
    return one == other or one in other.parents or other in one.parents


def folder_of(path: bytes, kept: Sequence[KeptFolder]) -> tuple[KeptFolder, bytes]:
    """The folder in which a path lies, and the path below its root. Raises OperatorError."""
    for folder in kept:
        for root in (os.fsencode(folder.path), os.path.realpath(os.fsencode(folder.path))):
            if path.startswith(root + b"/"):
                return folder, path[len(root) + 1 :]
    raise OperatorError(f"{shown(path)} lies in no folder that is kept here: see `replicad folder list`")
