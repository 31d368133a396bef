"""A member's identity on disk, its signatures, and what is taken for a member's certificate."""

import hashlib
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from replicad.errors import OperatorError, PeerError
from replicad.net.identity import check_certificate, load_or_create, member_id_of, verify
from tests.net.certificates import make_certificate, make_identity


def test_an_identity_is_made_once_and_found_again(tmp_path: Path) -> None:
    first, second = load_or_create(tmp_path), load_or_create(tmp_path)
    assert first.member_id == second.member_id == hashlib.sha256(first.certificate_der).hexdigest()
    assert second.certificate_der == first.certificate_der
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identity.crt", "identity.key"]


def test_no_one_else_may_read_the_key_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        load_or_create(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "identity.key").stat().st_mode) == 0o600


def test_a_crash_between_the_two_files_leaves_no_half_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def crash_at_the_key(self: Path, target: Path) -> Path:
        if target.name == "identity.key":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", crash_at_the_key)
    with pytest.raises(KeyboardInterrupt):
        load_or_create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["identity.crt"]
    monkeypatch.undo()
    assert check_certificate(load_or_create(tmp_path).certificate_der)


def test_a_missing_or_foreign_certificate_is_the_operators_to_mend(tmp_path: Path) -> None:
    one, other = make_identity(tmp_path, "one"), make_identity(tmp_path, "other")
    one.certificate_path.write_bytes(other.certificate_path.read_bytes())
    with pytest.raises(OperatorError, match="does not belong to"):
        load_or_create(tmp_path / "one")
    one.certificate_path.unlink()
    with pytest.raises(OperatorError, match="is missing"):
        load_or_create(tmp_path / "one")
    one.key_path.write_bytes(b"scribble")
    one.certificate_path.write_bytes(other.certificate_path.read_bytes())
    with pytest.raises(OperatorError, match="cannot be read"):
        load_or_create(tmp_path / "one")


def test_an_unwritable_home_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot use the identity") as caught:
        load_or_create(tmp_path / "not there")
    assert "\n" not in str(caught.value)


def test_a_signature_is_of_one_message_by_one_key(tmp_path: Path) -> None:
    one, other = make_identity(tmp_path, "one"), make_identity(tmp_path, "other")
    signature = one.sign(b"a message")
    assert len(signature) == 64
    assert verify(one.certificate_der, signature, b"a message")
    assert not verify(one.certificate_der, signature, b"another message")
    assert not verify(other.certificate_der, signature, b"a message")
    assert not verify(b"no certificate", signature, b"a message")


def test_a_members_certificate_is_taken(tmp_path: Path) -> None:
    identity = make_identity(tmp_path, "one")
    assert check_certificate(identity.certificate_der) == identity.member_id == member_id_of(identity.certificate_der)


def test_a_certificate_of_another_form_is_refused(tmp_path: Path) -> None:
    authority = make_certificate(tmp_path, "authority", ca=True)
    leaf = make_certificate(tmp_path, "leaf", issuer=authority, key=Ed25519PrivateKey.generate())
    good = make_identity(tmp_path, "one").certificate_der
    for bad in (leaf.der, good + b"\0", good[:-1], b"", b"x" * 5_000, bytes([good[0]]) + b"\0" * 300):
        with pytest.raises(PeerError):
            check_certificate(bad)
