"""Bytes and times as operators see them: printed safely for people, exactly in JSON."""

from __future__ import annotations

import base64
import datetime


def shown(path: bytes) -> str:
    """For people: control characters, invalid bytes and what would reorder a terminal's line are escaped."""
    return escaped(path.decode("utf-8", "surrogateescape"))


def escaped(text: str) -> str:
    """One printable line; lone surrogates stand for bytes that are not UTF-8."""
    return "".join(sign if sign.isprintable() and sign != "\\" else _escape(sign) for sign in text)


def path_json(path: bytes) -> str | dict[str, str]:
    """Text, or `{"path": shown, "path_bytes": base64}` where it is not UTF-8 (INTERFACE)."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        return {"path": shown(path), "path_bytes": base64.b64encode(path).decode()}


def rfc3339(time_ms: int) -> str:
    """UTC, with milliseconds; a time beyond the calendar is its end."""
    seconds = min(max(time_ms, 0) / 1000, 253402300799)
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def size_text(size_bytes: int) -> str:
    """`12 B`, `3.4 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = float(size_bytes)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1024 or unit == "TiB":
            break
    return f"{size:.1f} {unit}" if size < 100 else f"{size:.0f} {unit}"


def duration_text(seconds: float) -> str:
    """The two greatest units: `3 d 4 h`, `2 min 5 s`, `0.4 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if whole >= length or (unit == "s" and not parts):
            parts.append(f"{whole // length} {unit}")
            whole %= length
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def _escape(sign: str) -> str:
    code = ord(sign)
    if sign == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(sign)
    if short:
        return short
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
