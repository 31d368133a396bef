"""Several members that come back at once (docs/safety.md, section 5). Members are a, b, c, d, in a row; c and d are
away, and a and b have forgotten deletions meanwhile. A number is a file's content.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from replicad.core.effects import Received
from replicad.core.messages import ContentBackfill, ContentChange, Message
from replicad.core.messages_meeting import Judged
from replicad.engine.asked import rejoin
from replicad.engine.phases import Phase, Role
from tests.sim.group import Group
from tests.sim.member import SimMember
from tests.sim.script import a_group, assert_tree, cut_off, delete, join, kept, move, put, remove_tree, tree

MINUTE_MS = 60_000
LIFETIME_MS = 10 * MINUTE_MS
"""Of tombstones here."""
STALE = "away for longer than deletions are remembered"
PUT_BACK = "put back"


def forgotten_by_two(first: dict[str, int | None], act: Callable[[Group], None], *, originals: bool = False) -> Group:
    """`act` is done on a and b, and forgotten there, while c and d are away together."""
    if originals:
        group = Group("abcd", pairs="ab bc cd", tombstone_lifetime_ms=LIFETIME_MS)
        for member in group.members.values():
            for path, number in first.items():
                assert number is not None
                put(member, path, number)
        group.heal()
    else:
        group = a_group("abcd", first, pairs="ab bc cd", tombstone_lifetime_ms=LIFETIME_MS)
    group.network.cut("b", "c")
    group.network.cut("c", "b")
    for name in "ab":
        group[name].lapsed = {"c", "d"}
    group.run(MINUTE_MS)
    act(group)
    group.run(LIFETIME_MS + 5 * MINUTE_MS)
    for name in "ab":
        assert not group[name].catalog.tombstones(2**62, (-1, b""), 10), f"{name} still has tombstones"
    return group


def all_living(group: Group) -> None:
    for member in group.members.values():
        member.lapsed = set()


def restarted(member: SimMember) -> None:
    member.stop()
    member.start()


def life_seen(member: SimMember, of: SimMember) -> int:
    kept = member.catalog.peer(of.id)
    assert kept is not None
    return kept.life


def reports(member: SimMember, text: str) -> int:
    return sum(text in report.text for report in member.reports)


def when(group: Group, member: SimMember, phase: Phase, act: Callable[[], None]) -> None:
    """`act` once, as soon as the member is in this phase of rejoining."""
    done: list[bool] = []

    def look(one: SimMember) -> None:
        if one is member and one.up and not done and one.running.phase is phase:
            done.append(True)
            act()

    group.on_handled = look


PHASES = [Phase.COMPARING, Phase.LEARNING, Phase.CLAIMING]


@pytest.mark.parametrize("phase", PHASES, ids=[phase.name for phase in PHASES])
def test_i7_what_one_drops_does_not_come_back_by_way_of_another_that_has_not_heard(phase: Phase) -> None:
    """c compares with b, and drops f. d, which only c can reach, still has it, edits it, and makes g beside it."""
    group = forgotten_by_two({"f": 1, "d/x": 2, "z": 3}, lambda group: delete(group["a"], "f"))
    d = group["d"]

    def edited() -> None:
        put(d, "f", 5)
        put(d, "g", 6)

    when(group, group["c"], phase, edited)
    join(group, "b", "c")
    group.run(5 * MINUTE_MS)
    all_living(group)
    group.heal()
    assert_tree(group, {"d/x": 2, "z": 3, "g": 6} if "g" in str(kept(d)) else {"d/x": 2, "z": 3, **remains(d)})
    assert 1 in kept(group["c"])
    assert 5 in kept(d)


def remains(member: SimMember) -> dict[str, int]:
    """g is new: it lives on, unless its member had to begin anew before it looked."""
    return {} if 6 in kept(member) else {"g": 6}


def test_i7_what_one_has_never_heard_of_does_not_come_from_another_that_still_has_it() -> None:
    """c was away when f was made, and is told by b that its deletion is forgotten, and by d that it was edited."""
    group = a_group("abcd", {"z": 3}, pairs="ab ad bc cd", tombstone_lifetime_ms=LIFETIME_MS)
    a, b, c, d = (group[name] for name in "abcd")
    c.stop()
    put(a, "f", 1)
    group.run(MINUTE_MS)
    cut_off(group, "d")
    a.lapsed = b.lapsed = {"c", "d"}
    delete(a, "f")
    group.run(LIFETIME_MS + 5 * MINUTE_MS)
    assert not b.catalog.tombstones(2**62, (-1, b""), 10)
    group.network.weather.delay_ms = (900, 1_000)
    when(group, c, Phase.COMPARING, lambda: join(group, "c", "d"))
    c.start()
    group.run(2_000)
    for number in range(10, 30):
        put(d, "f", number)
        group.run(300)
    group.run(5 * MINUTE_MS)
    all_living(group)
    group.heal()
    assert_tree(group, {"z": 3})
    assert 29 in kept(d)


@pytest.mark.parametrize("restart", [False, True], ids=["cut_off", "restarted"])
def test_who_loses_its_teacher_takes_what_it_dropped_from_who_still_has_it(restart: bool) -> None:
    """Else c and d know the same, and hold different records, until b is back."""
    group = forgotten_by_two({"f": 1, "z": 3}, lambda group: delete(group["a"], "f"))
    b, c, d = group["b"], group["c"], group["d"]
    group.network.weather.delay_ms = (900, 1_000)

    def deserted() -> None:
        group.network.cut("b", "c")
        group.network.cut("c", "b")
        if restart:
            group.clock.after(0, lambda: restarted(c))

    when(group, c, Phase.LEARNING, deserted)
    join(group, "b", "c")
    group.run(5 * MINUTE_MS)
    assert c.running.phase is Phase.TAKING_PART
    assert tree(c) == tree(d) == {"f": 1, "z": 3}
    put(b, "z", 4)
    all_living(group)
    group.heal()
    assert_tree(group, {"z": 4})
    assert 1 in kept(d)


def test_i2_what_was_sent_with_an_earlier_life_in_mind_is_not_taken() -> None:
    """c was put back, and drops f, of which it has made a version that nobody has shown. What d sends meanwhile leaves
    out the place of f, which c had told it."""
    group = a_group("acd", {"f": 1})
    a, c, d = (group[name] for name in "acd")
    cut_off(group, "d")
    join(group, "a", "d")
    backup = c.database.copy()
    restarted(c)
    group.run(10_000)
    c.stop()
    c.put_catalog_back(backup)
    cut_off(group, "c")
    c.start()
    group.run(10_000)
    group.network.weather.delay_ms = (900, 1_000)
    join(group, "c", "d")
    group.run(10_000)
    assert c.running.phase is Phase.TAKING_PART
    late: list[Message] = []
    edited: list[int] = []

    def hold_back(source: SimMember, target: SimMember, message: Message) -> bool:
        if source is a and target is c and isinstance(message, Judged) and not edited:
            edited.append(5)
            put(c, "f", 5)
        holds = source is d and target is c and c.running.phase is not Phase.TAKING_PART and 8 not in edited
        if holds:
            late.append(message)
        return not holds

    def look(one: SimMember) -> None:
        if one is c and c.running.phase is Phase.COMPARING and 7 not in edited:
            edited.append(7)
            put(d, "f", 7)
        if one is c and c.running.phase is Phase.LEARNING and late and 8 not in edited:
            edited.append(8)
            for message in late:
                c.post(Received(d.id, message))

    group.network.on_message = hold_back
    group.on_handled = look
    join(group, "a", "c")
    group.run(MINUTE_MS)
    assert edited == [5, 7, 8]
    assert any(isinstance(message, ContentChange) for message in late)
    group.heal()
    assert_tree(group, {"f": 7})


def test_i7_a_forgotten_original_that_was_moved_and_edited_elsewhere_does_not_come_back() -> None:
    """Both its registers are new to a and b: what they know of it is what these have seen."""
    group = forgotten_by_two({"f": 1, "z": 3}, lambda group: delete(group["a"], "f"), originals=True)
    d = group["d"]
    move(d, "f", "g")
    group.run(MINUTE_MS)
    put(d, "g", 5)
    group.run(MINUTE_MS)
    join(group, "b", "c")
    group.run(5 * MINUTE_MS)
    all_living(group)
    group.heal()
    assert_tree(group, {"z": 3})
    assert kept(d) == [5]


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "unheard"])
def test_a_file_that_was_moved_into_a_forgotten_directory_is_not_lost(heard: bool) -> None:
    """Else its place names a parent that nobody has any more. Who has forgotten that asks for it, before it counts as a
    fault. `heard`: by c as well, before it compares."""
    group = forgotten_by_two({"d/e/x": 2, "z": 3}, lambda group: remove_tree(group["a"], "d"))
    move(group["d"], "z", "d/e/z")
    group.run(MINUTE_MS if heard else 0)
    join(group, "b", "c")
    group.run(5 * MINUTE_MS)
    all_living(group)
    group.heal()
    assert_tree(group, {"d/e/z": 3})
    assert kept(group["c"]) == kept(group["d"]) == [2]


def test_who_is_stale_towards_one_that_only_joins_waits_until_it_takes_part() -> None:
    """d meets c, which has heard from b what was forgotten, and cannot be compared with yet."""
    group = Group("abcd", pairs="ab ad bc cd", roles={"c": Role.JOINER}, tombstone_lifetime_ms=LIFETIME_MS)
    a, b, c, d = (group[name] for name in "abcd")
    for one in (a, b, d):
        one.start()
    group.run(5_000)
    put(a, "f", 1)
    put(a, "z", 3)
    group.run(MINUTE_MS)
    cut_off(group, "d")
    a.lapsed = b.lapsed = {"c", "d"}
    delete(a, "f")
    group.run(LIFETIME_MS + 5 * MINUTE_MS)
    assert not b.catalog.tombstones(2**62, (-1, b""), 10)
    group.network.weather.delay_ms = (900, 1_000)
    begun: list[Phase] = []
    joined: list[bool] = []

    def look(one: SimMember) -> None:
        if one is c and c.running.phase is Phase.CLAIMING and not joined:
            joined.append(True)
            assert c.running.tombstones.purged
            c.running.root.fault = "so that it goes on joining until d has met it"
            cut_off(group, "c")
            join(group, "c", "d")
        if one is d and d.running.phase is Phase.COMPARING and not begun:
            begun.append(c.running.phase)

    group.on_handled = look
    c.start()
    check = c.running.root.check
    c.running.root.check = lambda now_ms: check(now_ms) if not c.running.root.fault else False  # type: ignore[method-assign]
    next_due_ms = c.running.root.next_due_ms
    c.running.root.next_due_ms = lambda: next_due_ms() if not c.running.root.fault else None  # type: ignore[method-assign]
    group.run(MINUTE_MS)
    assert joined
    assert d.sessions
    assert not begun
    c.running.root.fault = ""
    join(group, "b", "c")
    group.run(5 * MINUTE_MS)
    assert begun == [Phase.TAKING_PART]
    all_living(group)
    group.heal()
    assert_tree(group, {"z": 3})
    assert kept(d) == [1]


@pytest.mark.parametrize("again", [False, True], ids=["b", "both"])
def test_a_restart_before_anybody_has_heard_of_the_new_life_is_no_reason_to_begin_anew(again: bool) -> None:
    """c has met b in its new life, and its last status of it is from before."""
    group = a_group("abc", {"f": 1})
    b, c = group["b"], group["c"]
    backup = b.database.copy()
    cut_off(group, "a")
    put(b, "g", 2)  # a does not hear of it: b will lack what it has told c
    group.run(5_000)
    b.stop()
    group.network.mend_all()
    b.put_catalog_back(backup, home=False)
    cut_off(group, "a")
    join(group, "a", "b")
    life = life_seen(c, b)

    def look(one: SimMember) -> None:
        if one is c and life_seen(c, b) != life:
            cut_off(group, "c")

    group.on_handled = look
    b.start()
    group.run(MINUTE_MS)
    group.on_handled = lambda one: None
    assert b.running.phase is Phase.TAKING_PART
    before = reports(b, PUT_BACK)
    assert before
    if again:
        c.stop()
        c.start()
    b.stop()
    b.start()
    group.heal()
    assert reports(b, PUT_BACK) == before
    assert_tree(group, {"f": 1, "g": 2})


def test_i7_who_joins_learns_first_from_one_that_has_forgotten() -> None:
    """What d, which still has f, sends to c is on its way when c meets b, which has forgotten f."""
    group = Group("abcd", pairs="ab ad bc cd", roles={"c": Role.JOINER}, tombstone_lifetime_ms=LIFETIME_MS)
    a, b, c, d = (group[name] for name in "abcd")
    for one in (a, b, d):
        one.start()
    group.run(5_000)
    put(a, "f", 1)
    put(a, "z", 3)
    group.run(MINUTE_MS)
    cut_off(group, "d")
    a.lapsed = b.lapsed = {"c", "d"}
    delete(a, "f")
    group.run(LIFETIME_MS + 5 * MINUTE_MS)
    assert not b.catalog.tombstones(2**62, (-1, b""), 10)
    cut_off(group, "c")
    join(group, "c", "d")
    late: list[Message] = []

    def hold_back(source: SimMember, target: SimMember, message: Message) -> bool:
        holds = source is d and target is c and isinstance(message, ContentChange | ContentBackfill)
        if holds and not late:
            join(group, "b", "c")
        late.extend([message] if holds else [])
        return not holds

    taken: set[str] = set()

    def look(one: SimMember) -> None:
        if one is c and b.id in c.running.exchange.meetings.met() and late:
            group.network.on_message = lambda *_: True
            while late:
                c.post(Received(d.id, late.pop()))
        taken.update(names_held(c) if one is c else ())

    group.network.on_message = hold_back
    group.on_handled = look
    c.start()
    group.run(5 * MINUTE_MS)
    all_living(group)
    group.heal()
    assert_tree(group, {"z": 3})
    assert taken == {"z"}
    assert kept(d) == [1]


def names_held(member: SimMember) -> set[str]:
    states = member.catalog.objects(member.catalog.children(b""))
    return {state.record.place.name.decode() for state in states if state.record.place is not None}


def test_one_that_is_asked_to_rejoin_and_another_do_not_wait_for_each_other() -> None:
    """a and b have forgotten x; c and d, apart from them, y. a is asked to rejoin, and reaches c alone from then on."""
    group = a_group("abcd", {"x": 1, "y": 2, "z": 4}, tombstone_lifetime_ms=LIFETIME_MS)
    a, b, c, d = (group[name] for name in "abcd")
    for one, other in (("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")):
        group.network.cut(one, other)
        group.network.cut(other, one)
    a.lapsed = b.lapsed = {"c", "d"}
    c.lapsed = d.lapsed = {"a", "b"}
    group.run(MINUTE_MS)
    delete(a, "x")
    delete(c, "y")
    group.run(LIFETIME_MS + 5 * MINUTE_MS)
    assert not any(one.catalog.tombstones(2**62, (-1, b""), 10) for one in (a, b, c, d))
    rejoin(a.running, a._new_replica(), primary=False, force=False, now_ms=a.now_ms)
    a.stop()
    cut_off(group, "a")
    a.start()
    join(group, "a", "c")
    group.run(5 * MINUTE_MS)
    assert [one.running.phase for one in (a, c)] == [Phase.TAKING_PART] * 2
    all_living(group)
    group.heal()
    assert_tree(group, {"z": 4})
    assert 1 in kept(c) or 1 in kept(d)
