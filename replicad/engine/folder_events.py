"""What comes to a folder at work beside what comes to every replica, and what it is given to begin with."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from replicad.core.collection import Circle
from replicad.core.effects import Event
from replicad.core.ids import MemberId, ReplicaId
from replicad.engine.height import Height
from replicad.engine.scan_read import LARGE_BYTES, HashOutcome
from replicad.engine.settings import FolderSettings
from replicad.files.changes import Change, Watch


class Surroundings(msgspec.Struct, frozen=True):
    """What the folder is given by whoever runs it. `draw`: numbers in [0, 1)."""

    may_send: Callable[[MemberId], bool]
    may_receive: Callable[[MemberId], bool]
    watch: Callable[[Callable[[Change], None]], Watch]
    on_change: Callable[[Change], None]
    """Called from the watch, from whatever thread; must come back as an event to `handle`."""
    draw: Callable[[], float]
    new_replica: Callable[[], ReplicaId]
    new_bytes: Callable[[int], bytes]
    circle: Callable[[], Circle | None] = lambda: None
    """Who must have installed a deletion before it is forgotten; None: not known yet."""
    height: Callable[[], Height | None] = lambda: None
    """What the mark in the home says (engine.height); read once."""
    note_height: Callable[[int], None] = lambda commits: None
    large_bytes: int = LARGE_BYTES
    """A file of more is hashed outside the folder's thread."""


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
