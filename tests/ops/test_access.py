"""Who may do what over the operator API."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from replicad.config.settings import ApiSettings
from replicad.errors import OperatorError
from replicad.ops.access import Request, TokenFile, read_or_create_token, refusal, rotate_token

TOKEN = "a-token-of-some-length"
READ = Request("/v1/status", changes=False, remote="127.0.0.1", host="127.0.0.1:7723", origin=None, authorization=None)
WITH_TOKEN = f"Bearer {TOKEN}"


def status(request: Request) -> int:
    answer = refusal(request, TOKEN)
    return 200 if answer is None else answer[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:7723", "localhost:7723", "[::1]:7723", "127.9.9.9"])
def test_reading_from_loopback_needs_no_token(host: str) -> None:
    assert status(replace(READ, host=host)) == 200
    assert status(replace(READ, host=host, remote="::ffff:127.0.0.1")) == 200


def test_a_change_needs_the_token_on_loopback_too() -> None:
    assert status(replace(READ, changes=True)) == 401
    assert status(replace(READ, changes=True, authorization=WITH_TOKEN)) == 200
    assert status(replace(READ, changes=True, authorization=f"bearer {TOKEN}")) == 200


def test_everything_off_loopback_needs_the_token() -> None:
    away = replace(READ, remote="192.0.2.7", host="alpha:7723")
    assert status(away) == 401
    assert status(replace(away, authorization=WITH_TOKEN)) == 200
    assert status(replace(away, authorization=WITH_TOKEN, changes=True)) == 200


@pytest.mark.parametrize("given", ["Bearer wrong", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer é"])
def test_a_wrong_token_is_refused_even_where_none_is_needed(given: str) -> None:
    assert status(replace(READ, authorization=given)) == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7723", "127.0.0.1.evil.example", "", "[::2]:7723"])
def test_a_name_that_a_web_page_made_resolve_to_loopback_is_refused(host: str) -> None:
    assert status(replace(READ, host=host)) == 403
    assert status(replace(READ, host=host, authorization=WITH_TOKEN)) == 200


def test_other_origins_are_refused_without_the_token() -> None:
    assert status(replace(READ, origin="https://evil.example")) == 403
    assert status(replace(READ, origin="null")) == 403
    assert status(replace(READ, origin="http://127.0.0.1:7723")) == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_open_to_everybody(path: str) -> None:
    assert status(replace(READ, path=path, remote="192.0.2.7", host="x")) == 200


def test_the_control_socket_may_do_everything() -> None:
    assert status(replace(READ, remote=None, host="", changes=True)) == 200


def test_a_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    token = read_or_create_token(tmp_path, ApiSettings())
    assert len(token) > 40
    assert read_or_create_token(tmp_path, ApiSettings()) == token
    assert (tmp_path / "api.token").stat().st_mode & 0o777 == 0o600


def test_a_rotated_token_counts_without_a_restart(tmp_path: Path) -> None:
    file = TokenFile(tmp_path, ApiSettings())
    before = file.current()
    after = rotate_token(tmp_path, ApiSettings())
    assert before != after == file.current()


def test_while_the_token_file_is_away_the_last_token_stays_in_force(tmp_path: Path) -> None:
    file = TokenFile(tmp_path, ApiSettings())
    before = file.current()
    os.unlink(tmp_path / "api.token")
    assert file.current() == before


def test_an_operators_token_file_is_used_and_never_made(tmp_path: Path) -> None:
    settings = ApiSettings(token_file=tmp_path / "secret")
    with pytest.raises(OperatorError, match="No such file"):
        read_or_create_token(tmp_path, settings)
    (tmp_path / "secret").write_text("  0123456789abcdef\n")
    assert read_or_create_token(tmp_path, settings) == "0123456789abcdef"
    (tmp_path / "secret").write_text("short\n")
    with pytest.raises(OperatorError, match="holds no token"):
        read_or_create_token(tmp_path, settings)
