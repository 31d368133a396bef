"""A member's identity: a key pair and a certificate that it signed itself.

A member *is* its key: its id is the SHA-256 of its certificate. There is no authority above the members; who belongs
to the group is a record in the hierarchy, and nothing in a certificate but its key means anything: not its name, not
its dates (they span all time, because a member with a wrong clock is still the same member).

Ed25519: Python's `ssl` (3.11 to 3.13, OpenSSL 3) takes it in TLS 1.3 as client's and server's certificate and as its
own trust anchor; its signatures have one length and one value for one message, which records in a replicated set like.

Files in the home: `identity.key` (PKCS #8, PEM, mode 0600) and `identity.crt` (PEM). The certificate is written first
and the key last, each complete and durable before its name appears: a key without its certificate is never seen, and
whoever finds no key makes a new identity.
"""

from __future__ import annotations

import datetime
import hashlib
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from replicad.core.ids import MemberId
from replicad.errors import OperatorError, PeerError
from replicad.net.durable import write_durably

KEY_FILE = "identity.key"
CERTIFICATE_FILE = "identity.crt"

CERTIFICATE_BYTES_MAX = 2_048
"""Ours have 301 bytes; room for other key types of later versions, and a limit on what a joiner can make us keep."""
SIGNATURE_BYTES = 64
MEMBER_ID_BYTES = 32

_NOT_BEFORE = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)  # RFC 5280: no well-defined end


def member_id_of(certificate_der: bytes) -> MemberId:
    """64 characters of lower-case hex."""
    return hashlib.sha256(certificate_der).hexdigest()


@dataclass(frozen=True, slots=True)
class Identity:
    """This member. `key_path` and `certificate_path` are what `ssl` loads: it takes a private key only from a file."""

    member_id: MemberId
    certificate_der: bytes
    key_path: Path
    certificate_path: Path
    _key: Ed25519PrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """64 bytes; `verify` checks them. The caller puts a label of its purpose into `message`."""
        return self._key.sign(message)


def verify(certificate_der: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the certificate's key signed `message`. A certificate that cannot be read has signed nothing."""
    try:
        _public_key(_parsed(certificate_der)).verify(signature, message)
    except (InvalidSignature, PeerError):
        return False
    return True


def check_certificate(certificate_der: bytes) -> MemberId:
    """The id of the member whose certificate this is; PeerError where it is none that TLS could work with.

    One bad certificate among the trusted ones would make every handshake fail, so none is taken up unchecked.
    """
    certificate = _parsed(certificate_der)
    key = _public_key(certificate)
    if certificate.public_bytes(serialization.Encoding.DER) != certificate_der:
        raise PeerError("a certificate is not in its only encoding")
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature as error:
        raise PeerError("a certificate is not signed by its own key") from error
    _check_with_ssl(certificate_der)
    return member_id_of(certificate_der)


def load_or_create(home: Path) -> Identity:
    """The identity in `home`, made at the first call. Blocking. OperatorError says what is wrong with the files."""
    try:
        if not (home / KEY_FILE).exists():
            _create(home)
        return _load(home)
    except OSError as error:
        raise OperatorError(f"cannot use the identity in {home}: {error.strerror or error}") from error


def _load(home: Path) -> Identity:
    key_path, certificate_path = home / KEY_FILE, home / CERTIFICATE_FILE
    if not certificate_path.exists():
        raise OperatorError(f"{certificate_path} is missing: put it back from a backup; it cannot be made again")
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    except (ValueError, TypeError) as error:
        what = f"put {KEY_FILE} and its {CERTIFICATE_FILE} back from a backup"
        raise OperatorError(f"the identity in {home} cannot be read: {what}") from error
    if not isinstance(key, Ed25519PrivateKey) or key.public_key() != certificate.public_key():
        raise OperatorError(f"{certificate_path} does not belong to {key_path}: put both back from one backup")
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Identity(member_id_of(der), der, key_path, certificate_path, key)


def _create(home: Path) -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    # The name says nothing; it only differs from member to member, because OpenSSL looks trusted ones up by it.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "replicad " + hashlib.sha256(public).hexdigest()[:32])])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_durably(home / CERTIFICATE_FILE, certificate.public_bytes(pem), 0o644)
    write_durably(home / KEY_FILE, secret, 0o600)


def _parsed(certificate_der: bytes) -> x509.Certificate:
    if len(certificate_der) > CERTIFICATE_BYTES_MAX:
        raise PeerError("a certificate is too long")
    try:
        return x509.load_der_x509_certificate(certificate_der)
    except Exception as error:
        # The parser raises many kinds of errors for one thing: this is no certificate.
        raise PeerError("a certificate cannot be read") from error


def _public_key(certificate: x509.Certificate) -> Ed25519PublicKey:
    try:
        key = certificate.public_key()
    except Exception as error:
        raise PeerError("a certificate's key cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise PeerError("a certificate has a key of an unknown kind")
    return key


def _check_with_ssl(certificate_der: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=certificate_der)
    except ssl.SSLError as error:
        raise PeerError("a certificate cannot be used for TLS") from error
