"""Ways through the members of a folder, from the links that each of them has told of.

A member's links are in its status, which goes through the whole group (core.status_board), so all know about all links
within some seconds. A way goes by what each member on it has said itself. What is told may be out of date: who finds an
edge broken leaves it out, and looks for another way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from replicad.core.ids import MemberId
from replicad.core.messages import ROUTE_MEMBERS_MAX

Route = tuple[MemberId, ...]
"""Both ends included, nobody twice."""
Edge = tuple[MemberId, MemberId]


def routes(
    own: MemberId,
    targets: Collection[MemberId],
    links: Callable[[MemberId], Iterable[MemberId]],
    broken: Collection[Edge] = (),
) -> dict[MemberId, Route]:
    """A shortest way to each of `targets` that is reached, through others of them alone. `broken`: edges not to take.

    Who is no target passes nothing on: these are the members of the folder.
    """
    found: dict[MemberId, Route] = {own: (own,)}
    reached: list[MemberId] = [own]
    missing = set(targets) - {own}
    for member in reached:
        if not missing or len(found[member]) == ROUTE_MEMBERS_MAX:
            break
        for next_one in sorted(missing.intersection(links(member))):
            if (member, next_one) not in broken:
                found[next_one] = (*found[member], next_one)
                reached.append(next_one)
                missing.discard(next_one)
    del found[own]
    return found
