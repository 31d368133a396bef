"""How bytes, sizes and times are shown."""

import pytest

from replicad.ops.text import duration_text, path_json, rfc3339, shown, size_text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"a b/\xc3\xa4", "a b/ä"),
        (b"new\nline\t\x1b[31m", "new\\nline\\t\\x1b[31m"),
        (b"\xff\xfe.txt", "\\xff\\xfe.txt"),
        (b"back\\slash", "back\\\\slash"),
        ("turn\u202eround".encode(), "turn\\u202eround"),
        ("tag\U000e0041".encode(), "tag\\U000e0041"),
    ],
)
def test_what_could_upset_a_terminal_is_escaped(path: bytes, expected: str) -> None:
    assert shown(path) == expected
    assert shown(path).isprintable()


def test_a_path_in_json_is_text_or_names_its_bytes() -> None:
    assert path_json(b"a\n") == "a\n"
    assert path_json(b"\xff") == {"path": "\\xff", "path_bytes": "/w=="}


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert rfc3339(2**53) == "9999-12-31T23:59:59.000Z"


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**32, "4.0 GiB"), (2**51, "2048 TiB")]
)
def test_sizes_have_units(size: int, expected: str) -> None:
    assert size_text(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (3.14, "3.1 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_000, "1 d 1 h")],
)
def test_durations_have_their_two_greatest_units(seconds: float, expected: str) -> None:
    assert duration_text(seconds) == expected
