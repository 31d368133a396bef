"""A loser of a conflict whose name is free again: its content is in nobody's tree, only preserved on its author's disk.

The one who frees the name has not heard of the loser, or the loser would be gone with it (DESIGN section 3, rule 3).
"""

import random
from collections.abc import Sequence

from tests.system.folder_tools import MTIME_NS, all_the_same, at_rest, names_in, put, stay
from tests.system.harness import Server, Servers, until

SMALL, LARGE = b"the loser", random.Random(1).randbytes(3_000_000)


def alone(server: Server, others: Sequence[Server]) -> None:
    """It runs, nobody else does, and it has looked at what is on its disk."""
    for other in others:
        if other.running:
            other.stop()
    if not server.running:
        server.start()
    server.ask("POST", "/v1/wait", {"members": 1})


def test_a_loser_that_comes_up_again_is_brought_back_from_where_it_is_preserved(servers: Servers) -> None:
    members = loser, relay, winner = servers.group(3)
    stay(members)
    alone(loser, [relay, winner])
    put(loser.folder() / "small", SMALL)
    put(loser.folder() / "large", LARGE)
    loser.ask("POST", "/v1/wait", {"members": 1})  # else it is found at the next start, and is the later one
    alone(winner, [loser, relay])
    put(winner.folder() / "small", b"the winner", mtime_ns=MTIME_NS + 10**9)
    put(winner.folder() / "large", bytes(3_000_000), mtime_ns=MTIME_NS + 10**9)
    winner.ask("POST", "/v1/wait", {"members": 1})
    relay.start()
    until("the relay has what won", lambda: (relay.folder() / "small").exists() and (relay.folder() / "large").exists())
    winner.stop()
    loser.start()
    all_the_same(servers, [loser, relay])
    store = loser.folder() / ".replicad/ConflictAndDeleted"
    assert {path.read_bytes() for path in store.iterdir()} == {SMALL, LARGE}

    alone(winner, [loser, relay])
    (winner.folder() / "small").rename(winner.folder() / "small of the winner")
    (winner.folder() / "large").rename(winner.folder() / "large of the winner")
    winner.ask("POST", "/v1/wait", {"members": 1})
    relay.start()
    until("the relay has heard of it", lambda: (relay.folder() / "large of the winner").exists())
    loser.start()
    all_the_same(servers, members)
    assert names_in(winner.folder()) == {"small", "large", "small of the winner", "large of the winner"}
    assert (winner.folder() / "small").read_bytes() == SMALL
    assert (winner.folder() / "large").read_bytes() == LARGE
    at_rest(members, preserved=2)
