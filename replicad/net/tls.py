"""TLS between members: version 1.3 only, both sides known by key, no names, no authority.

What Python's `ssl` can do decides the form. A server cannot ask for a certificate that it does not know, so the
members' certificates are its trust anchors and `CERT_OPTIONAL` lets those in who come without one (to join). Tickets
are off: a resumed session would outlive a removal. Nothing can be taken out of a context's store, so a change of the
members makes a new context, and every handshake takes the newest one.

Rules kept here and in `net.server`:

1. A chain that verifies proves nothing about membership: a member's certificate could have signed another (OpenSSL
   takes every trust anchor as an issuer). What counts is the fingerprint of the certificate at the chain's end.
2. The dialer compares the server's fingerprint inside the handshake, before its own last flight leaves: neither its
   certificate nor a byte of a request reaches a stranger.
3. A context belongs to one expected member, and connection pools are kept by context: a connection to one member can
   never carry a request meant for another, whatever address they share.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

from replicad.core.ids import MemberId
from replicad.net.identity import Identity, member_id_of

SERVER_NAME = "replicad"
"""Sent as SNI by every dialer: names of hosts mean nothing here, and not all of them are allowed in SNI."""


class ServerTrust:
    """The server's context for the current members; `context()` is asked for anew at every handshake."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._certificates: tuple[bytes, ...] = ()
        self._context: ssl.SSLContext | None = None

    def set_members(self, certificates_der: Iterable[bytes]) -> None:
        """Only certificates that `identity.check_certificate` has passed: a bad one would end every handshake."""
        certificates = tuple(sorted(set(certificates_der)))
        if certificates != self._certificates:
            self._certificates = certificates
            self._context = None

    def context(self) -> ssl.SSLContext:
        """Reading a certificate takes OpenSSL some 0.1 ms: once a change of the members, not once a handshake."""
        if self._context is None:
            self._context = _server_context(self._identity, self._certificates)
        return self._context


def member_context(identity: Identity, certificate_der: bytes) -> ssl.SSLContext:
    """For dialing the member whose certificate this is, as ourselves."""
    context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.expected_member_id = member_id_of(certificate_der)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate_der)
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    return context


def guest_context(expected_member_id: MemberId | None) -> ssl.SSLContext:
    """For dialing without a certificate of our own: to join, or to hear a refusal.

    With `expected_member_id` the handshake fails at anyone else; with None it succeeds with anyone, and proves nothing
    but that the same key is met again under the fingerprint learned.
    """
    context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.expected_member_id = expected_member_id
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the key is proved by TLS, the fingerprint by us: no chain is wanted
    return context


def peer_certificate(ssl_object: ssl.SSLObject) -> bytes | None:
    """The certificate (DER) that the other side proved to hold the key of."""
    return ssl_object.getpeercert(binary_form=True)


class _PinnedObject(ssl.SSLObject):
    """Fails the handshake on the wrong fingerprint: asyncio then drops what it would have sent, our last flight too."""

    def do_handshake(self) -> None:
        super().do_handshake()
        expected = self.context.expected_member_id if isinstance(self.context, _PinnedContext) else None
        if expected is None:
            return
        certificate = peer_certificate(self)
        met = member_id_of(certificate) if certificate else "nobody"
        if met != expected:
            raise ssl.SSLCertVerificationError(1, f"expected member {expected[:16]}, met {met[:16]}")


class _PinnedContext(ssl.SSLContext):
    sslobject_class = _PinnedObject
    expected_member_id: MemberId | None = None


def _server_context(identity: Identity, certificates_der: Iterable[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    anchors = b"".join(certificates_der)
    if anchors:
        context.load_verify_locations(cadata=anchors)
    return context


def abort(transport: asyncio.BaseTransport | None) -> None:
    """Drop a connection at once, whatever state it is in; one that is gone is left alone.

    In early Python 3.11 (Debian 12 has 3.11.2) a TLS transport that was closed twice, as aiohttp does, has forgotten
    its protocol, and `abort` raises AttributeError. Its shutdown is under way by then, and ends by itself.
    """
    if not isinstance(transport, asyncio.Transport):
        return
    try:
        transport.abort()
    except AttributeError:
        if not transport.is_closing():
            raise
