"""Members among each other: identity, TLS, joining, the standing link, content. What is on the wire: docs/net.md.

**Who we are.** `identity.load_or_create(home)` (blocking) gives the `Identity`: member id, certificate (DER), `sign`.
`identity.verify(certificate, signature, message)`; `identity.check_certificate(der)` before one is believed.

**The network.** One `network.PeerNetwork` a daemon, as an asynchronous context:

    async with PeerNetwork(identity, Myself(id, group_id, boot, software), handler, NetSettings(listen),
                           desk=JoinDesk(…), source=ContentSource) as network:
        network.set_members({member_id: certificate_der, …})    # whoever is not in it is cut off at once
        network.set_addresses(member_id, [Address(…), …])       # new ones are dialed at once
        network.links(), network.link(member_id), network.dial_state(member_id), network.addresses

`handler` (`network.NetHandler`) is told of links and messages, opens sessions, and words refusals. A `link.Link` has
`send` (waits while 8 MiB are queued), `try_send` (False instead), `rtt_ms`, `clock_offset_ms`, and `info` with what the
hello told. For each member at most one link is up; `on_link_down` of one has returned before `on_link_up` of the next.
`on_message` is awaited, and holds the peer back. A bug in a handler comes out of the `async with`.

**Joining.** `join.JoinDesk` judges who wants in, with an `Invitations` for the books of tokens and an `Admit` that
takes the joiner into the group and returns what it needs first. `token.new_invitation`, `encode_token`, `decode_token`.
The other side: `joining.join_by_token` and `joining.join_by_secret`, which need no network. Keys and ids that follow
from names: `core.naming`.

**Content.** `network.content` (`content_client.ContentClient`) asks a member for small files, manifests and ranges, and
hides whether the member can be dialed or has to bring them. A `content_server.ContentSource` serves them, in threads.

**Errors** are errors.PeerError: `refusal.Refused` with a code where the other said no, `client.UnreachableError` where
nobody answers, `connection.LinkClosedError` where the link is gone, ProtocolError where the other breaks the rules.
Mistakes of an operator (a token, an address, a port that is taken) are OperatorError.
"""
