"""An edit made while stopped is stamped so that it does not beat a later edit made elsewhere (DESIGN section 3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replicad.engine.scan_read import LARGE_BYTES
from replicad.engine.scan_state import Reread
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, apart

DAY_MS = 600_000
"""Short days: what a day brings is statuses."""
Act = Callable[[SimMember, bytes], None]


def write(member: SimMember, text: bytes) -> None:
    member.fs.user_write(b"d/f", text)


def write_large(member: SimMember, text: bytes) -> None:
    """What is hashed elsewhere."""
    member.fs.user_write(b"d/f", text * (LARGE_BYTES // len(text) + 1))


def save(member: SimMember, text: bytes) -> None:
    member.fs.user_save(b"d/f", text)


def copy_an_old_one(member: SimMember, text: bytes) -> None:
    """`cp -p`: its mtime is older than what it replaces."""
    member.fs.user_write(b"d/f", text)
    member.fs.user_set_mtime(b"d/f", 1_000_000_000)


def chmod(member: SimMember, text: bytes) -> None:
    member.fs.user_chmod(b"d/f", 0o600 + text[0] % 8)


def chmod_directory(member: SimMember, text: bytes) -> None:
    member.fs.user_chmod(b"d", 0o700 + text[0] % 8)


def retarget(member: SimMember, text: bytes) -> None:
    member.fs.user_unlink(b"d/l")
    member.fs.user_symlink(b"d/l", text)


def rename(member: SimMember, text: bytes) -> None:
    member.fs.user_rename(b"d/f", text)


def rename_directory(member: SimMember, text: bytes) -> None:
    member.fs.user_rename(b"d", text)


def look(member: SimMember) -> dict[bytes, tuple[int, bytes]]:
    return {path: (stat.mode, data) for path, (stat, data) in member.fs.read_tree().items()}


ACTS = (
    write, write_large, save, copy_an_old_one, chmod, chmod_directory, retarget, rename, rename_directory
)  # fmt: skip


def started() -> tuple[Group, SimMember, SimMember]:
    group = a_group("ab")
    a, b = group["a"], group["b"]
    a.fs.user_mkdir(b"d")
    a.fs.user_write(b"d/f", b"first")
    a.fs.user_symlink(b"d/l", b"first")
    group.heal()
    group.run(DAY_MS)
    return group, a, b


@pytest.mark.parametrize("act", ACTS)
def test_mondays_offline_change_found_on_wednesday_does_not_beat_tuesdays(act: Act) -> None:
    group, a, b = started()
    b.stop()
    act(b, b"monday")
    group.run(DAY_MS)
    act(a, b"tuesday")
    group.run(1_000)
    tuesday = look(a)
    group.run(DAY_MS)
    b.start()
    group.heal()
    assert look(a) == look(b) == tuesday


@pytest.mark.parametrize("act", ACTS)
def test_tuesdays_offline_change_found_on_wednesday_beats_mondays(act: Act) -> None:
    group, a, b = started()
    b.stop()
    act(a, b"monday")
    group.run(DAY_MS)
    act(b, b"tuesday")
    tuesday = look(b)
    group.run(DAY_MS)
    b.start()
    group.heal()
    assert look(a) == look(b) == tuesday


@pytest.mark.parametrize("act", ACTS)
def test_a_change_seen_as_it_happens_is_stamped_by_the_clock_whatever_its_times(act: Act) -> None:
    """`cp -p` is what its user has just done."""
    group, a, b = started()
    apart(group)
    act(a, b"monday")
    group.run(DAY_MS)
    act(b, b"tuesday")
    tuesday = look(b)
    group.run(1_000)
    group.heal()
    assert look(a) == look(b) == tuesday


@pytest.mark.parametrize("act", [write, write_large, save, copy_an_old_one, chmod])
def test_mondays_offline_change_where_a_crash_caught_the_applier_does_not_beat_tuesdays(act: Act) -> None:
    """The applier has the path looked at again: it has seen no more of when it was changed than the scan has."""
    group, a, b = started()
    b.kill_before = after_an_exchange_with(b"d/f")
    a.fs.user_write(b"d/f", b"installed")
    group.run(10_000)
    assert not b.up
    assert b.fs.read_tree()[b"d/f"][1] == b"installed"
    act(b, b"monday")
    group.run(DAY_MS)
    act(a, b"tuesday")
    group.run(1_000)
    tuesday = look(a)
    group.run(DAY_MS)
    b.start()
    group.heal()
    assert look(a) == look(b) == tuesday


def test_mondays_offline_change_that_the_applier_meets_while_the_first_scan_reads_it_does_not_beat_tuesdays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large file, and Tuesday's change is heard of before it is hashed."""
    group, a, b = started()
    b.stop()
    write_large(b, b"monday")
    group.run(DAY_MS)
    write(a, b"tuesday")
    group.run(1_000)
    tuesday = look(a)
    group.run(DAY_MS)
    begin_hash = b._begin_hash
    monkeypatch.setattr(b, "_begin_hash", lambda wanted: group.clock.after(5_000, lambda: begin_hash(wanted)))
    b.start()
    met: list[bytes] = []
    hint_path = b.running.disk.scanner.hint_path

    def meets(path: bytes, *, since: int = 0, reread: Reread = Reread.NO) -> None:
        met.append(path)
        hint_path(path, since=since, reread=reread)

    monkeypatch.setattr(b.running.disk.scanner, "hint_path", meets)
    group.run(3_000)
    assert b.running.disk.scanner.scanning
    assert b"d/f" in met
    group.heal()
    assert look(a) == look(b) == tuesday


def after_an_exchange_with(target: bytes) -> Callable[[str, tuple[bytes, ...]], bool]:
    done = False

    def is_after(method: str, paths: tuple[bytes, ...]) -> bool:
        nonlocal done
        if done:
            return True
        done = method == "exchange" and paths[-1] == target
        return False

    return is_after
