"""What a folder is told beside what every replica is (core.effects): answers of threads, settings, changes."""

from __future__ import annotations

import msgspec

from replicad.core.effects import Event
from replicad.engine.scan_read import HashOutcome
from replicad.engine.settings import FolderSettings
from replicad.files.changes import Change


class FileHashed(msgspec.Struct, frozen=True):
    """The answer to a `HashFile`."""

    directory: bytes
    name: bytes
    outcome: HashOutcome


class FileHeld(msgspec.Struct, frozen=True):
    """The answer to a `WhoHolds`: processes that have the file open for writing, in words; "" where none is known."""

    path: bytes
    holders: str


class SettingsChanged(msgspec.Struct, frozen=True):
    settings: FolderSettings


FolderEvent = Event | FileHashed | FileHeld | SettingsChanged | Change
