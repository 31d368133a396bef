"""What the room takes as settings. Values beside which nothing else is said are limits of the protocol: docs/net.md."""

from __future__ import annotations

from dataclasses import dataclass

from replicad.net.addresses import Address


@dataclass(frozen=True, slots=True)
class NetSettings:
    """`listen` may have port 0: any free one, and `port_before` where that is free."""

    listen: Address
    port_before: int = 0
    """The one that the system gave the last time: those who knew this member find it there. 0: none."""

    ping_ms: int = 10_000
    """Both sides send one so often, whatever else they send: a round trip is measured and a dead peer noticed."""
    dead_ms: int = 30_000
    """Without a single byte for so long a link is dead: three pings lost in a row."""
    hello_ms: int = 10_000
    """From a connection to its last word before data: two round trips and the peer's catalog."""
    probe_ms: int = 2_000
    """How long a link is given to show that it lives, when its peer asks for another."""
    stall_ms: int = 120_000
    """One frame (4 MiB at most) that cannot be handed to the system for so long: 35 KB/s, less is no link."""
    send_queue_bytes: int = 8 * 1_048_576
    """Two of the longest frames a link; who wants to send more waits, or keeps it in the catalog."""

    dial_min_ms: int = 200
    dial_max_ms: int = 30_000
    """Between attempts at a member that does not answer, doubling, jittered: a returned one is found within half a
    minute, at a cost of 2 packets a minute and member."""
    steady_ms: int = 10_000
    """A link that lived so long ends the doubling; one that was cut short goes on with it."""

    handshake_ms: int = 10_000
    guest_ms: int = 60_000
    """How long a connection without a certificate may stay: a join over the worst link."""
    guests_max: int = 128
    """Connections without a certificate at once: joins take seconds, and few are made together."""
    handshakes_max: int = 256
    """TLS handshakes at once; a newer one takes the place of the oldest, so that idle strangers block nobody."""
    connections_max: int = 2_048
    """200 members with a stream and nine requests each; some 100 KB of memory a connection."""

    content_threads: int = 4
    """That read content for peers: reading releases the interpreter, and more than that many disks are rare."""
    reprobe_ms: int = 60_000
    """After a member that dialed us could not be dialed, until its address is tried again for content."""
