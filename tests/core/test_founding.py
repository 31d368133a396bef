"""The end of a founding: rule 6 of the design, S36 and S37."""

from __future__ import annotations

from replicad.core.founding import ALONE_MS, QUIET_MS, Founding, Seen

EQUAL = Seen(scanned=True, agrees=True)
BUSY = Seen(scanned=False, agrees=False)
SILENT = Seen(scanned=None, agrees=False)


def test_it_ends_an_hour_after_two_agree_and_nobody_scans() -> None:
    founding = Founding()
    assert not founding.look(True, [EQUAL], 0)
    assert not founding.look(True, [EQUAL], QUIET_MS - 1)
    assert founding.look(True, [EQUAL], QUIET_MS)


def test_s36_a_member_in_its_first_scan_holds_it_open_however_long() -> None:
    founding = Founding()
    for hour in range(10):
        assert not founding.look(True, [EQUAL, BUSY], hour * QUIET_MS)
    assert not founding.look(True, [EQUAL, EQUAL], 10 * QUIET_MS)
    assert founding.look(True, [EQUAL, EQUAL], 11 * QUIET_MS)


def test_a_member_that_has_not_told_may_be_in_its_first_scan() -> None:
    founding = Founding()
    assert not founding.look(True, [EQUAL, SILENT], 0)
    assert not founding.look(True, [EQUAL, SILENT], 2 * QUIET_MS)


def test_members_that_never_agreed_do_not_end_it() -> None:
    founding = Founding()
    apart = Seen(scanned=True, agrees=False)
    assert not founding.look(True, [apart], 0)
    assert not founding.look(True, [apart], 100 * ALONE_MS)


def test_s37_who_met_nobody_ends_it_a_day_after_the_first_scan() -> None:
    founding = Founding()
    assert not founding.look(False, [], 0)
    assert not founding.look(True, [], ALONE_MS)
    assert not founding.look(True, [], 2 * ALONE_MS - 1)
    assert founding.look(True, [], 2 * ALONE_MS)


def test_who_once_met_somebody_does_not_end_it_alone() -> None:
    founding = Founding()
    assert not founding.look(True, [BUSY], 0)
    assert not founding.look(True, [], 10 * ALONE_MS)


def test_the_own_first_scan_begins_the_hour_anew() -> None:
    founding = Founding()
    assert not founding.look(True, [EQUAL], 0)
    assert not founding.look(False, [EQUAL], QUIET_MS)
    assert not founding.look(True, [EQUAL], QUIET_MS + 1)
    assert founding.look(True, [EQUAL], 2 * QUIET_MS + 1)
