"""What `status`, `events` and `wait` print for people."""

from typing import Any

from replicad.cli.show import event_line, path_text, status_text
from replicad.cli.tables import table, width

BACKLOG = {"files": 0, "bytes": 0, "oldest_s": None}


def shot(**changes: Any) -> dict[str, Any]:
    folder = {
        "id": "f", "name": "docs", "path": "/srv/do\ncs", "state": 4, "state_name": "Normal", "reason": None,
        "scanning": False, "objects": 3, "bytes": 2048, "lag_s": 0.02, "backlog_in": BACKLOG,
        "backlog_out": [{"member": "beta", "files": 2, "bytes": 4096, "oldest_s": 65.0, "as_of": "2026-01-01"}],
        "only_here": {"files": 2, "bytes": 4096}, "staging": {"used_bytes": 0, "quota_bytes": 1},
        "preserved": {"files": 1, "bytes": 5},
        "blocked": [{"path": {"path": "\\xff", "path_bytes": "/w=="}, "reason": "permission denied"}],
        "blocked_count": 1,
    }  # fmt: skip
    members = [
        {"id": "b" * 64, "name": "beta", "connected": True, "address": "beta:7722", "rtt_ms": 0.84, "last_seen": None,
         "error": None},
        {"id": "c" * 64, "name": "gamma", "connected": False, "address": "gamma:7722", "rtt_ms": None,
         "last_seen": None, "error": "No route\x1b[31m"},
    ]  # fmt: skip
    return {
        "member": {"id": "a" * 64, "name": "alpha", "version": "1", "uptime_s": 3.0, "addresses": ["0.0.0.0:7722"]},
        "group": {"id": "g", "name": "demo"},
        "members": members,
        "folders": [{**folder, **changes}],
    }


def test_a_person_sees_members_folders_backlog_and_what_is_blocked() -> None:
    text = status_text(shot(), colour=False)
    for part in (
        "member alpha of group demo",
        "beta    connected",
        "gamma   not connected",
        "folder docs at /srv/do\\ncs: 4 Normal",
        "to come in  nothing",
        "to beta     2 files, 4.0 KiB, for 1 min 5 s",
        "only here   2 files, 4.0 KiB",
        "preserved   1 files",
        "blocked: 1",
        "\\xff  permission denied",
    ):
        assert part in text, part


def test_nothing_that_could_upset_a_terminal_is_printed() -> None:
    text = status_text(shot(), colour=False)
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    assert "\x1b" in status_text(shot(), colour=True)


def test_who_has_lapsed_is_shown_with_since_when() -> None:
    told = shot()
    told["member"]["lapsed"] = "2026-01-02"
    told["members"][1]["lapsed"] = "2026-01-03"
    text = status_text(told, colour=False)
    assert "lapsed since 2026-01-02: the others do not wait for it" in text
    assert "gamma   lapsed " in text
    assert "lapsed since 2026-01-03; No route" in text


def test_a_folder_in_error_says_why() -> None:
    text = status_text(shot(state=5, state_name="In Error", reason="the root marker is missing"), colour=False)
    assert "5 In Error" in text
    assert "because     the root marker is missing" in text


def test_a_home_without_a_group_says_what_to_do() -> None:
    text = status_text({"member": {"id": "a" * 64}, "group": None, "members": [], "folders": []}, colour=False)
    assert "replicad init" in text


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    lines = table(("A", "B"), [("\u65e5\u672c", "x"), ("e\u0301", "y"), ("abcd", "z")]).split("\n")
    assert [width(line[: line.index(last)]) for line, last in zip(lines, "Bxyz", strict=True)] == [6, 6, 6, 6]


def test_an_event_is_one_safe_line() -> None:
    event = {"number": 1, "time": "T", "code": 4302, "folder": "docs", "text": "being\nwritten", "path": "a\tb"}
    assert event_line(event) == "T [4302] folder docs: being\\nwritten (a\\tb)"
    assert path_text({"path": "\\xff", "path_bytes": "/w=="}) == "\\xff"
