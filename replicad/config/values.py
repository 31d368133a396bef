"""Kinds of values that a setting can have: what TOML or the environment gives becomes a checked value.

A kind's `read` takes a value as TOML has it, `read_text` one as the environment has it; both raise ValueError whose
text says what is wrong and what would be right. Nothing here looks at the disk or the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from replicad.errors import UsageError
from replicad.net.addresses import Address, parse_address

NAME_CHARACTERS_MAX = 64
"""Of a member's, group's or folder's name: it stands in tables, keys, log lines and messages."""
LIST_ITEMS_MAX = 256
"""Of a list in a setting: more seeds or addresses than any group has use for are a mistake."""

_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{NAME_CHARACTERS_MAX - 1}}}")
_SIZE_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(r"(\d+) ?([A-Za-z]*)")
_TIME_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400, "m": 60}
_TIME = re.compile(r"(\d+) ?([a-z]*)")


@dataclass(frozen=True, slots=True)
class Kind:
    """`example` is what a mistake's message offers instead."""

    read: Callable[[object], object]
    read_text: Callable[[str], object]
    example: str


def read_address(value: object) -> Address:
    """HOST:PORT or [IPV6]:PORT; port 0 is allowed: the system chooses one."""
    try:
        return parse_address(_text(value))
    except UsageError as error:
        raise ValueError(str(error)) from error


def read_dialable(value: object) -> Address:
    """An address that somebody else can dial: no wildcard, no port 0."""
    address = read_address(value)
    if address.unspecified or not address.port:
        raise ValueError(f"{value!r} cannot be dialed by others")
    return address


def read_name(value: object) -> str:
    """The name of a member, group or folder: docs/PROTOCOL.md, section 10."""
    text = _text(value)
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name: 1 to {NAME_CHARACTERS_MAX} letters, digits, dots, - and _, the first no dot or -"
        )
    return text


def read_path(value: object) -> Path:
    """Absolute, without `..`, as UTF-8; not resolved, since what it names may not exist yet."""
    text = _text(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!r} is not UTF-8") from error
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise ValueError(f"{text!r} is no absolute path")
    return Path(os.path.normpath(text))


def read_size(value: object) -> int:
    """Bytes: a number, or a number with B, KiB, MiB, GiB or TiB."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        match = _SIZE.fullmatch(_text(value))
        if match is None or match[2] not in _SIZE_UNITS:
            raise ValueError(f"{value!r} is no size")
        size = int(match[1]) * _SIZE_UNITS[match[2]]
    if not 0 <= size < 2**62:
        raise ValueError(f"{value!r} is out of range")
    return size


def read_seconds(value: object) -> int:
    """Whole seconds: a number, or a number with s, min (m), h or d."""
    if isinstance(value, int) and not isinstance(value, bool):
        seconds = value
    else:
        match = _TIME.fullmatch(_text(value))
        if match is None or match[2] not in _TIME_UNITS:
            raise ValueError(f"{value!r} is no length of time")
        seconds = int(match[1]) * _TIME_UNITS[match[2]]
    if not 0 <= seconds <= 10 * 365 * 86400:
        raise ValueError(f"{value!r} is out of range")
    return seconds


def choice(*allowed: str) -> Kind:
    def read(value: object) -> str:
        text = _text(value)
        if text not in allowed:
            raise ValueError(f"{text!r} is none of {', '.join(allowed)}")
        return text

    return Kind(read, read, allowed[0])


def seconds(low: int, high: int, example: str) -> Kind:
    def read(value: object) -> int:
        number = read_seconds(value)
        if not low <= number <= high:
            raise ValueError(f"{number} s is out of range: {low} to {high}")
        return number

    return Kind(read, read, example)


def size(low: int, high: int, example: str) -> Kind:
    def read(value: object) -> int:
        number = read_size(value)
        if not low <= number <= high:
            raise ValueError(f"{number} bytes are out of range: {low} to {high}")
        return number

    return Kind(read, read, example)


def whole(low: int, high: int, example: str) -> Kind:
    def read(value: object) -> int:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value)
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise ValueError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return Kind(read, read, example)


def list_of(kind: Kind) -> Kind:
    """In TOML an array, in the environment items between commas (an empty one is left out)."""

    def read(value: object) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is no list")
        if len(value) > LIST_ITEMS_MAX:
            raise ValueError(f"a list has at most {LIST_ITEMS_MAX} items")
        return tuple(kind.read(item) for item in value)

    def read_text(text: str) -> tuple[object, ...]:
        return read([item.strip() for item in text.split(",") if item.strip()])

    return Kind(read, read_text, f'["{kind.example}"]')


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


ADDRESS = Kind(read_address, read_address, "0.0.0.0:7722")
DIALABLE = Kind(read_dialable, read_dialable, "alpha.example:7722")
NAME = Kind(read_name, read_name, "alpha")
PATH = Kind(read_path, read_path, "/srv/docs")
