"""Replays what a program did to files, kept as text in the form in which strace prints it (tests/system/saves).

Each call must end as it did when it was recorded: a descriptor, 0, a number of bytes, or the same error.
"""

import ast
import errno
import os
import re
from pathlib import Path

SAVES = Path(__file__).with_name("saves")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)(?: (E[A-Z]+) .*)?")
_ARGUMENT = re.compile(r'"(?:[^"\\]|\\.)*"|[^,\s][^,]*')


def replay(name: str, directory: Path) -> None:
    """The calls of `saves/NAME.strace`, paths taken relative to `directory`."""
    opened: dict[int, int] = {}
    at = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for line in (SAVES / f"{name}.strace").read_text().splitlines():
            if not line.startswith("#"):
                _repeat(line, at, opened)
    finally:
        for handle in (*opened.values(), at):
            os.close(handle)


def _repeat(line: str, at: int, opened: dict[int, int]) -> None:
    match = _CALL.fullmatch(line)
    assert match, f"not a call: {line}"
    call, arguments, result, error = match[1], _ARGUMENT.findall(match[2]), int(match[3]), match[4]
    try:
        done, went_wrong = _call(call, arguments, at, opened), None
    except OSError as found:
        done, went_wrong = -1, found.errno
    assert went_wrong == (getattr(errno, error) if error else None), f"{went_wrong} instead of: {line}"
    if call == "openat" and done >= 0:
        opened[result] = done
    else:
        assert done == result, f"{done}: {line}"


def _call(call: str, arguments: list[str], at: int, opened: dict[int, int]) -> int:
    match call, arguments:
        case "openat", [_, path, flags, *mode]:
            how = sum(getattr(os, flag) for flag in flags.split("|"))
            return os.open(_text(path), how, int(mode[0], 8) if mode else 0, dir_fd=at)
        case "write", [handle, data, _]:
            return os.write(opened[int(handle)], _text(data))
        case "fsync", [handle]:
            os.fsync(opened[int(handle)])
        case "fchmod", [handle, mode]:
            os.fchmod(opened[int(handle)], int(mode, 8))
        case "close", [handle]:
            os.close(opened.pop(int(handle)))
        case "unlink", [path]:
            os.unlink(_text(path), dir_fd=at)
        case "link", [path, new]:
            os.link(_text(path), _text(new), src_dir_fd=at, dst_dir_fd=at)
        case "rename", [path, new]:
            os.rename(_text(path), _text(new), src_dir_fd=at, dst_dir_fd=at)
        case _:
            raise AssertionError(f"{call} of {len(arguments)} arguments is not known here")
    return 0


def _text(argument: str) -> bytes:
    quoted: bytes = ast.literal_eval("b" + argument)
    return quoted
