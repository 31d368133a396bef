"""Identities for tests, and certificates that no replicad would make."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from replicad.net.identity import Identity, load_or_create


def make_identity(directory: Path, name: str) -> Identity:
    home = directory / name
    home.mkdir()
    return load_or_create(home)


@dataclass(frozen=True)
class Made:
    """A certificate made by hand, with the files that `ssl` wants."""

    der: bytes
    key: Ed25519PrivateKey
    certificate_path: Path
    key_path: Path


def make_certificate(
    directory: Path, name: str, *, issuer: Made | None = None, ca: bool = False, key: Ed25519PrivateKey | None = None
) -> Made:
    """Self-signed, or signed by `issuer`."""
    key = key or Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    issued_by = x509.load_der_x509_certificate(issuer.der).subject if issuer else subject
    certificate = (
        x509.CertificateBuilder(issued_by, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signer, None)
    )
    pem = serialization.Encoding.PEM
    certificate_path, key_path = directory / f"{name}.crt", directory / f"{name}.key"
    certificate_path.write_bytes(certificate.public_bytes(pem))
    key_path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return Made(certificate.public_bytes(serialization.Encoding.DER), key, certificate_path, key_path)
