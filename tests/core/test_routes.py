"""Ways through the members of a folder (core.routes)."""

from __future__ import annotations

from collections.abc import Iterable

from replicad.core.messages import ROUTE_MEMBERS_MAX
from replicad.core.routes import routes


def told(text: str, names: str) -> dict[str, set[str]]:
    """Links as they are told: "ab bc"; "a>b" by a alone."""
    found: dict[str, set[str]] = {name: set() for name in names}
    for pair in text.split():
        found[pair[0]].add(pair[-1])
        if ">" not in pair:
            found[pair[-1]].add(pair[0])
    return found


def ways(text: str, names: str, broken: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    links = told(text, names)
    found = routes("a", set(names[1:]), lambda member: links[member], set(broken))
    return {member: "".join(way) for member, way in found.items()}


def test_a_linked_member_is_reached_directly_and_the_others_by_a_shortest_way() -> None:
    assert ways("ab bc cd ad", "abcd") == {"b": "ab", "d": "ad", "c": "abc"}


def test_who_is_not_reached_has_no_way() -> None:
    assert ways("ab cd", "abcd") == {"b": "ab"}


def test_each_member_on_a_way_has_told_of_its_next_link_itself() -> None:
    assert ways("ab c>b", "abc") == {"b": "ab"}


def test_a_broken_edge_is_left_out_in_its_direction() -> None:
    assert ways("ab bd ac cd", "abcd", [("b", "d")])["d"] == "acd"
    assert ways("ab bd", "abd", [("d", "b")])["d"] == "abd"


def test_only_members_of_the_folder_pass_on() -> None:
    links = told("ab bc", "abc")
    assert routes("a", {"c"}, lambda member: links[member]) == {}


def test_a_way_has_a_limit_and_a_circle_ends() -> None:
    names = [f"m{number:02}" for number in range(ROUTE_MEMBERS_MAX + 3)]
    links = {one: [*names[max(0, at - 1) : at], *names[at + 1 : at + 2]] for at, one in enumerate(names)}
    found = routes(names[0], names, lambda member: links[member])
    assert set(found) == set(names[1:ROUTE_MEMBERS_MAX])
    assert max(len(way) for way in found.values()) == ROUTE_MEMBERS_MAX
