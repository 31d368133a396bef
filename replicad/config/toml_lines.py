"""Where in a TOML file each key stands: `tomllib` tells of values, not of lines.

Only for text that `tomllib` has accepted, so nothing is checked here: a small scanner that knows headers, keys,
strings, brackets and comments, and nothing of values.
"""

from __future__ import annotations

KeyPath = tuple[str | int, ...]
"""Keys from the top; an element of an array of tables is its index."""


def key_lines(text: str) -> dict[KeyPath, int]:
    """Each key and table header with its line, counted from 1. Keys of inline tables are left out."""
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text + "\n"
        self._at = 0
        self._lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}  # elements so far of each array of tables

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while (sign := self._skip_blank()) is not None:
            line = self._line()
            if sign == "[":
                table = self._header()
                self._lines.setdefault(table, line)
            else:
                path = (*table, *self._keys("="))
                self._lines.setdefault(path, line)
                self._value()
        return self._lines

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _skip_blank(self) -> str | None:
        """Over space, line ends and comments, to the next sign; None at the end."""
        while self._at < len(self._text):
            sign = self._text[self._at]
            if sign == "#":
                self._at = self._text.index("\n", self._at)
            elif sign.isspace():
                self._at += 1
            else:
                return sign
        return None

    def _header(self) -> KeyPath:
        array = self._text.startswith("[[", self._at)
        self._at += 2 if array else 1
        keys = self._keys("]")
        self._at = self._text.index("\n", self._at)
        # A table below an array of tables belongs to its last element.
        path: KeyPath = ()
        for number, key in enumerate(keys):
            path = (*path, key)
            last = number == len(keys) - 1
            if last and array:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path

    def _keys(self, end: str) -> tuple[str, ...]:
        """A dotted key up to `end`, which is consumed."""
        keys: list[str] = []
        while (sign := self._skip_blank()) != end:
            assert sign is not None
            if sign == ".":
                self._at += 1
            elif sign in "\"'":
                start = self._at
                self._string()
                keys.append(self._text[start + 1 : self._at - 1])
            else:
                start = self._at
                while self._text[self._at].isalnum() or self._text[self._at] in "-_":
                    self._at += 1
                assert self._at > start, "not a key"
                keys.append(self._text[start : self._at])
        self._at += 1
        return tuple(keys)

    def _value(self) -> None:
        """To the end of its line, or of the line on which its last bracket closes."""
        depth = 0
        while True:
            sign = self._text[self._at]
            if sign in "\"'":
                self._string()
                continue
            if sign == "#":
                self._at = self._text.index("\n", self._at)
                continue
            self._at += 1
            if sign in "[{":
                depth += 1
            elif sign in "]}":
                depth -= 1
            elif sign == "\n" and depth == 0:
                return

    def _string(self) -> None:
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            self._at += 3
            self._until(quote * 3, escapes=quote == '"')
            while self._text[self._at] == quote:  # up to two quotes may stand before the closing three
                self._at += 1
        else:
            self._at += 1
            self._until(quote, escapes=quote == '"')

    def _until(self, end: str, *, escapes: bool) -> None:
        while not self._text.startswith(end, self._at):
            self._at += 2 if escapes and self._text[self._at] == "\\" else 1
        self._at += len(end)
