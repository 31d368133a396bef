"""Events go first, but what is due comes in between."""

from replicad.core.turns import EVENTS_A_TICK_MAX, Turns


def test_what_is_due_waits_for_so_many_events_and_no_more() -> None:
    turns = Turns()
    order = []
    for _ in range(3 * EVENTS_A_TICK_MAX):
        tick = turns.work_first
        turns.took(tick=tick)
        order.append(tick)
    assert [at for at, tick in enumerate(order) if tick] == [EVENTS_A_TICK_MAX, 2 * EVENTS_A_TICK_MAX + 1]
