"""Paths within a folder: bytes, relative, joined with ``/``, ``b""`` the root. Both filesystems split them here."""

import re

PRIVATE = b".replicad"
"""The directory in the root that is replicad's own: never replicated, never scanned."""

_BROKEN = re.compile(rb"(?:\A|/)\.{0,2}(?:/|\Z)|\0")
"""An empty component (a leading, trailing or doubled slash), ``.`` or ``..``, or a NUL anywhere."""


def components(path: bytes) -> list[bytes]:
    """The names on the way from the root, none for the root itself. ValueError where a rule is broken."""
    if not path:
        return []
    if _BROKEN.search(path):
        raise ValueError(f"not a path within a folder: {path!r}")
    return path.split(b"/")


def split(path: bytes) -> tuple[bytes, bytes]:
    """(parent, name). ValueError for the root, which has neither, and where a rule is broken."""
    if not path or _BROKEN.search(path):
        raise ValueError(f"not the path of an entry within a folder: {path!r}")
    parent, _, name = path.rpartition(b"/")
    return parent, name


def check(path: bytes) -> bytes:
    """The path as it is; ValueError where a rule is broken."""
    if path and _BROKEN.search(path):
        raise ValueError(f"not a path within a folder: {path!r}")
    return path


def join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name
