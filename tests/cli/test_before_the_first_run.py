"""Commands that work on a home while no daemon runs: results, one-line errors, exit statuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from replicad.cli.main import main
from replicad.ops.home import locked
from replicad.ops.office import folder_catalog

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command on the home `home`; (exit status, stdout, stderr)."""
    for name in ("REPLICAD_HOME", "REPLICAD_MEMBER_HOME"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, home: str = "home") -> tuple[int, str, str]:
        status = main([*arguments, "--home", str(tmp_path / home)])
        said = capsys.readouterr()
        return status, said.out.strip(), said.err.strip()

    return run


def test_a_group_is_founded_once(cli: Cli, tmp_path: Path) -> None:
    status, out, _ = cli("init", "--name", "alpha", "--group", "demo", "--listen", "127.0.0.1:7000", "--json")
    assert status == 0
    result = json.loads(out)
    assert (result["group"]["name"], result["member"]["name"]) == ("demo", "alpha")
    assert 'listen = "127.0.0.1:7000"' in (tmp_path / "home/replicad.toml").read_text()
    status, _, err = cli("init", "--name", "alpha")
    assert status == 1
    assert err.startswith("replicad: ")
    assert "belongs to the group demo already" in err
    assert "\n" not in err


def test_folders_are_made_and_listed_before_the_first_run(cli: Cli, tmp_path: Path) -> None:
    cli("init", "--name", "alpha")
    path = tmp_path / "docs"
    assert cli("folder", "create", "docs", str(path))[0] == 0
    assert path.is_dir()
    folders = json.loads(cli("folder", "list", "--json")[1])["folders"]
    assert [(row["name"], row["path"], row["members"]) for row in folders] == [("docs", str(path), ["alpha"])]
    assert "docs" in (tmp_path / "home/folders.toml").read_text()
    assert cli("folder", "leave", "docs")[0] == 0
    assert json.loads(cli("folder", "list", "--json")[1])["folders"][0]["path"] is None
    assert cli("folder", "join", "docs", str(path))[0] == 0
    assert cli("folder", "remove", "docs")[0] == 0
    assert json.loads(cli("folder", "list", "--json")[1]) == {"folders": []}
    assert path.is_dir()


@pytest.mark.parametrize(("ends", "begins"), [("remove", "create"), ("leave", "join")])
def test_a_folder_that_begins_anew_finds_no_catalog_of_an_earlier_one(
    cli: Cli, tmp_path: Path, ends: str, begins: str
) -> None:
    """Where others took it out of the group its catalog has stayed: it would bring back what was in that folder."""
    cli("init", "--name", "alpha")
    cli("folder", "create", "docs", str(tmp_path / "docs"))
    folder = bytes.fromhex(json.loads(cli("folder", "list", "--json")[1])["folders"][0]["id"])
    cli("folder", ends, "docs", "--now")
    left = folder_catalog(tmp_path / "home", folder)
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"of an earlier folder")
    assert cli("folder", begins, "docs", str(tmp_path / "docs"))[0] == 0
    assert not left.exists()


def test_how_a_folder_is_kept_is_set_and_taken_back(cli: Cli, tmp_path: Path) -> None:
    cli("init", "--name", "alpha")
    cli("folder", "create", "docs", str(tmp_path / "docs"))

    def settings() -> dict[str, int]:
        kept: dict[str, int] = json.loads(cli("folder", "list", "--json")[1])["folders"][0]["settings"]
        return kept

    default = {
        "staging_quota_bytes": 4 * 2**30,
        "scan_interval_s": 3600,
        "preserved_quota_bytes": 4 * 2**30,
        "preserved_min_age_s": 30 * 86_400,
        "tombstone_lifetime_s": 60 * 86_400,
        "scan_deletions_max": 1000,
    }
    assert settings() == default
    assert cli("folder", "set", "docs", "staging_quota=10GiB", "scan_interval=1d")[:2] == (0, "changed the folder docs")
    assert settings() == {**default, "staging_quota_bytes": 10 * 2**30, "scan_interval_s": 86_400}
    assert cli("folder", "set", "docs", "scan_interval=default", "preserved_quota=1MiB", "preserved_min_age=7d")[0] == 0
    changed = {"preserved_quota_bytes": 2**20, "preserved_min_age_s": 7 * 86_400}
    assert settings() == {**default, "staging_quota_bytes": 10 * 2**30, **changed}


def test_the_policy_of_a_folder_is_the_groups_and_is_gone_with_the_folder(cli: Cli, tmp_path: Path) -> None:
    cli("init", "--name", "alpha")
    cli("folder", "create", "docs", str(tmp_path / "docs"))

    def policy() -> str:
        return str(json.loads(cli("folder", "list", "--json")[1])["folders"][0]["conflicts"])

    assert policy() == "preserve"
    assert cli("folder", "set", "docs", "conflicts=sibling")[0] == 0
    assert policy() == "sibling"
    assert cli("folder", "set", "docs", "conflicts=neither")[0] == 2
    cli("folder", "leave", "docs", "--now")
    assert cli("folder", "set", "docs", "staging_quota=1GiB")[0] == 1, "it is not kept here"
    assert cli("folder", "set", "docs", "conflicts=default")[0] == 0
    assert policy() == "preserve"
    cli("folder", "set", "docs", "conflicts=sibling")
    cli("folder", "remove", "docs")
    cli("folder", "create", "docs", str(tmp_path / "docs"))
    assert policy() == "preserve"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["folder", "create", "docs", "{base}/other"], 1, "is kept here already"),
        (["folder", "create", "sub", "{base}/docs/sub"], 1, "lie in each other"),
        (["folder", "create", "up", "{base}"], 1, "lie in each other"),
        (["folder", "create", "in-home", "{base}/home/x"], 1, "lie in each other"),
        (["folder", "create", "a/b", "{base}/x"], 2, "is no name"),
        (["folder", "create", "root", "/"], 2, "whole machine"),
        (["folder", "create", "file", "{base}/file"], 1, "is no directory: give another path"),
        (["folder", "create", "below", "{base}/file/x"], 1, "Not a directory; give another path"),
        (["folder", "create", "link", "{base}/link"], 1, "is a symlink to elsewhere: give the directory itself"),
        (["folder", "create", "link", "{base}/to-docs/in"], 1, "lie in each other: choose another place"),
        (["folder", "move", "docs", "{base}/nowhere"], 1, "is not there: move the directory first"),
        (["folder", "move", "nothing", "{base}/x"], 1, "there is no folder nothing"),
        (["hold", "list"], 3, "no daemon answers"),
        (["abandon", "{base}/docs/f"], 3, "no daemon answers"),
        (["folder", "join", "nothing", "{base}/x"], 1, "there is no folder nothing in the group; there are: docs"),
        (["folder", "leave", "nothing"], 1, "there is no folder nothing"),
        (["folder", "remove", "nothing"], 1, "there is no folder nothing"),
        (["folder", "set", "nothing", "staging_quota=1GiB"], 1, "there is no folder nothing"),
        (["folder", "set", "docs", "staging_quota"], 2, "'staging_quota' is no KEY=VALUE"),
        (["folder", "set", "docs", "quota=1"], 2, "no such setting; there are staging_quota, scan_interval"),
        (["folder", "set", "docs", "staging_quota=much"], 2, "staging_quota: 'much' is no size; give for example 4GiB"),
        (["folder", "set", "docs", "scan_interval=2000d"], 2, "scan_interval: 172800000 s is out of range"),
        (["member", "remove", "nobody"], 1, "there is no member nobody"),
        (["member", "remove", "alpha"], 1, "remove it from another one"),
        (["join", "rj1_xx", "--name", "beta"], 2, "the join token is damaged"),
        (["join", "hello", "--name", "beta"], 2, "this is not a join token"),
        (["invite", "--ttl", "soon"], 2, "--ttl: 'soon' is no length of time"),
        (["invite", "--uses", "0"], 2, "--uses"),
        (["invite", "revoke", "abcd"], 1, "no token with the id abcd"),
        (["status"], 3, "no daemon answers"),
        (["wait"], 3, "no daemon answers"),
        (["events"], 3, "no daemon answers"),
        (["wait", "--timeout", "-1"], 2, "out of range"),
        (["bogus"], 2, "invalid choice"),
        (["folder"], 2, "required"),
    ],
)
def test_every_mistake_is_one_line_with_its_exit_status(
    cli: Cli, tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    cli("init", "--name", "alpha", "--listen", "127.0.0.1:7000")
    cli("folder", "create", "docs", str(tmp_path / "docs"))
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "to-docs").symlink_to("docs")
    found, out, err = cli(*(argument.format(base=tmp_path) for argument in arguments))
    assert (found, out) == (status, "")
    assert says in err
    assert err.startswith("replicad: ")
    assert "\n" not in err


def test_without_a_group_a_command_says_what_to_do(cli: Cli) -> None:
    status, _, err = cli("folder", "list")
    assert status == 1
    assert "use `replicad init` or `replicad join`" in err


def test_a_token_is_one_line_and_can_be_revoked(cli: Cli) -> None:
    cli("init", "--name", "alpha", "--listen", "127.0.0.1:7000")
    status, token, err = cli("invite", "--ttl", "2h", "--uses", "3")
    assert (status, err) == (0, "")
    assert token.startswith("rj1_")
    assert "\n" not in token
    (book,) = json.loads(cli("invite", "list", "--json")[1])["invitations"]
    assert (book["uses_left"], book["used_by"]) == (3, [])
    assert cli("invite", "revoke", book["id"][:8])[0] == 0
    assert json.loads(cli("invite", "list", "--json")[1]) == {"invitations": []}


def test_a_token_that_nobody_could_dial_is_not_made(cli: Cli) -> None:
    cli("init", "--name", "alpha", "--listen", "127.0.0.1:0")
    status, _, err = cli("invite")
    assert status == 2
    assert "no address to put into the token" in err


def test_joining_where_nobody_answers_says_so_and_leaves_the_home_free(cli: Cli, tmp_path: Path) -> None:
    cli("init", "--name", "alpha", "--listen", "127.0.0.1:9")  # nobody listens there
    token = cli("invite")[1]
    status, _, err = cli("join", token, "--name", "beta", home="other")
    assert status == 1
    assert "127.0.0.1:9" in err
    assert not (tmp_path / "other/group.json").exists()
    assert cli("init", "--name", "beta", home="other")[0] == 0


def test_the_token_is_printed_and_rotated_without_a_daemon(cli: Cli) -> None:
    first = cli("token")[1]
    assert cli("token")[1] == first
    second = cli("token", "--rotate")[1]
    assert second != first
    assert json.loads(cli("token", "--json")[1]) == {"token": second}


def test_a_home_that_another_process_holds_is_not_touched(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("init", "--name", "alpha")
    monkeypatch.setattr("replicad.cli.calling.BUSY_WAIT_S", 0.0)
    with locked(tmp_path / "home", "run"):
        status, _, err = cli("folder", "list")
    assert status == 1
    assert "is in use by process" in err


def test_wrong_settings_are_all_told_with_exit_status_2(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/replicad.toml").write_text('[member]\nnam = "x"\nlisten = "y"\n')
    status, _, err = cli("folder", "list")
    assert status == 2
    assert [line.split(": ")[1].removeprefix(str(tmp_path)) for line in err.split("\n")] == [
        "/home/replicad.toml:2",
        "/home/replicad.toml:3",
    ]
