"""Settings from files and the environment: precedence, and every mistake at once with its place."""

from pathlib import Path

import pytest

from replicad.config.layers import ConfigError
from replicad.config.loading import Sources, find_home, load
from replicad.config.settings import DEFAULT_API, DEFAULT_LISTEN, DeclaredFolder, GroupSettings, Settings
from replicad.config.written import KeptFolder, read_kept, write_config, write_kept
from replicad.daemon.declared import kept_as_declared
from replicad.engine.settings import FolderSettings
from replicad.errors import OperatorError
from replicad.net.addresses import Address

DECLARED = """
[member]
name = "alpha"
home = "{home}"
listen = "0.0.0.0:7000"
advertise = ["alpha:7000", "[fd00::1]:7000"]

[api]
listen = "0.0.0.0:7001"
token_file = "/run/secrets/api"

[group]
name = "demo"
secret_file = "/run/secrets/group"
seeds = ["alpha:7722", "beta:7722"]

[[folder]]
name = "docs"
path = "/data"
"""


def loaded(tmp_path: Path, text: str | None = None, **environment: str) -> Settings:
    file = None
    if text is not None:
        file = tmp_path / "file.toml"
        file.write_text(text)
    return load(Sources(environment, tmp_path / "home", file))


def mistakes(tmp_path: Path, text: str | None = None, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, **environment)
    assert caught.value.exit_status == 2
    return str(caught.value).replace(str(tmp_path), "TMP").split("\n")


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert settings.member.home == tmp_path / "home"
    assert (settings.member.name, settings.member.listen, settings.api.listen) == (None, DEFAULT_LISTEN, DEFAULT_API)
    assert (settings.group, settings.folders) == (None, ())


def test_the_declared_form_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "replicad.toml"
    file.write_text(DECLARED.format(home=tmp_path / "h"))
    settings = load(Sources({}, None, file))
    assert settings.member.home == tmp_path / "h"
    assert settings.member.advertise == (Address("alpha", 7000), Address("fd00::1", 7000))
    assert settings.api.token_file == Path("/run/secrets/api")
    seeds = (Address("alpha", 7722), Address("beta", 7722))
    assert settings.group == GroupSettings("demo", Path("/run/secrets/group"), seeds)
    assert settings.folders == (DeclaredFolder("docs", Path("/data")),)


def test_every_setting_can_come_from_the_environment(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        REPLICAD_MEMBER_NAME="beta",
        REPLICAD_MEMBER_ADVERTISE="b:1, c:2",
        REPLICAD_GROUP_NAME="demo",
        REPLICAD_GROUP_SECRET_FILE="/s",
        REPLICAD_FOLDER_NAME="docs,media",
        REPLICAD_FOLDER_PATH="/srv/docs,/srv/media",
        REPLICAD_LOG_LEVEL="debug",
    )
    assert settings.member.name == "beta"
    assert settings.member.advertise == (Address("b", 1), Address("c", 2))
    assert settings.group == GroupSettings("demo", Path("/s"))
    docs, media = settings.folders
    assert (docs.name, docs.path, media.name, media.path) == ("docs", Path("/srv/docs"), "media", Path("/srv/media"))
    assert settings.log.level == "debug"


def test_the_environment_beats_the_file_which_beats_the_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_config(home, name="from-home", listen=Address("127.0.0.1", 1), advertise=[], api=Address("127.0.0.1", 2))
    file = '[member]\nname = "from-file"\nlisten = "127.0.0.1:3"\n'
    settings = loaded(tmp_path, file, REPLICAD_MEMBER_NAME="from-environment")
    assert settings.member.name == "from-environment"
    assert settings.member.listen == Address("127.0.0.1", 3)
    assert settings.api.listen == Address("127.0.0.1", 2)


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert loaded(tmp_path, '[member]\nname = "x"\n', REPLICAD_MEMBER_NAME="").member.name == "x"


def test_every_mistake_is_reported_at_once_with_file_line_and_key(tmp_path: Path) -> None:
    text = """[member]
name = "a/b"
lisen = "0.0.0.0:1"
listen = "nowhere"
advertise = [
  "0.0.0.0:1",
]

[grup]
[group]
name = "demo"

[[folder]]
name = "docs"

[[folder]]
name = "docs"
path = "data"
"""
    found = mistakes(tmp_path, text, REPLICAD_MEMBER_NAM="x", REPLICAD_API_LISTEN="y")
    starts = [
        "REPLICAD_API_LISTEN: 'y' is not an address",
        "REPLICAD_MEMBER_NAM: there is no such setting; did you mean REPLICAD_MEMBER_NAME?",
        "TMP/file.toml:2: member.name: 'a/b' is no name: 1 to 64 letters",
        "TMP/file.toml:3: member.lisen: there is no such setting; did you mean listen?",
        "TMP/file.toml:4: member.listen: 'nowhere' is not an address",
        "TMP/file.toml:5: member.advertise: '0.0.0.0:1' cannot be dialed",
        "TMP/file.toml:9: grup: there is no such section; did you mean group?",
        "TMP/file.toml:18: folder.path: 'data' is no absolute path",
        "TMP/file.toml:10: group.secret_file: is missing",
        "TMP/file.toml:13: folder.path: is missing",
        "TMP/file.toml:17: folder.name: 'docs' is taken at TMP/file.toml:14",
    ]
    assert len(found) == len(starts), found
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[member\n", "TMP/file.toml:1: is no TOML: "),
        ('x = 1\nmember = "alpha"\n', "TMP/file.toml:1: x: there is no such section"),
        ("[folder]\nname = 'x'\n", "TMP/file.toml:1: folder: is a list of folders: write [[folder]]"),
        ("[member]\nadvertise = 'a:1'\n", "TMP/file.toml:2: member.advertise: 'a:1' is no list"),
        ("[member]\nname = 1\n", "TMP/file.toml:2: member.name: 1 is no text"),
    ],
)
def test_a_malformed_file_is_a_mistake_with_its_line(tmp_path: Path, text: str, start: str) -> None:
    assert mistakes(tmp_path, text)[0].startswith(start)


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(Sources({}, tmp_path, tmp_path / "none.toml"))


def test_folders_of_the_environment_must_pair_up(tmp_path: Path) -> None:
    found = mistakes(tmp_path, REPLICAD_FOLDER_NAME="a,b", REPLICAD_FOLDER_PATH="/a")
    assert found == ["REPLICAD_FOLDER_NAME and REPLICAD_FOLDER_PATH: must have the same number of items"]


def test_a_folder_within_another_is_a_mistake(tmp_path: Path) -> None:
    found = mistakes(tmp_path, REPLICAD_FOLDER_NAME="a,b", REPLICAD_FOLDER_PATH="/srv/a,/srv/a/b")
    assert found == ["REPLICAD_FOLDER_PATH: folder.path: /srv/a/b and /srv/a (REPLICAD_FOLDER_PATH) lie in each other"]


def test_variables_that_a_container_engine_sets_are_not_mistakes(tmp_path: Path) -> None:
    loaded(tmp_path, REPLICAD_SERVICE_HOST="10.0.0.1", REPLICAD_PORT="tcp://10.0.0.1:7722", REPLICAD_PORT_7722_TCP="x")


def test_the_home_is_the_option_then_the_variable_then_the_file(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text('[member]\nhome = "/from/file"\n')
    assert find_home(Sources({"REPLICAD_HOME": "/v"}, Path("/o"), file)) == Path("/o")
    assert find_home(Sources({"REPLICAD_HOME": "/v"}, None, file)) == Path("/v")
    assert find_home(Sources({"REPLICAD_MEMBER_HOME": "/w"}, None, file)) == Path("/w")
    assert find_home(Sources({}, None, file)) == Path("/from/file")
    with pytest.raises(ConfigError, match="differs from REPLICAD_MEMBER_HOME"):
        find_home(Sources({"REPLICAD_HOME": "/v", "REPLICAD_MEMBER_HOME": "/w"}))


def test_the_folders_kept_here_are_remembered(tmp_path: Path) -> None:
    assert read_kept(tmp_path) == ()
    folders = (KeptFolder("a.b", Path('/srv/ä "b" #')), KeptFolder("docs", Path("/srv/docs"), declared=True))
    write_kept(tmp_path, reversed(folders))
    assert read_kept(tmp_path) == folders
    assert (tmp_path / "folders.toml").stat().st_mode & 0o777 == 0o600


def test_how_a_folder_is_kept_is_declared_with_it(tmp_path: Path) -> None:
    text = '[[folder]]\nname = "docs"\npath = "/a"\nstaging_quota = "10GiB"\nscan_interval = 0\n'
    (docs,) = loaded(tmp_path, text).folders
    assert docs.settings == FolderSettings(quota_bytes=10 * 2**30, scan_interval_ms=0)
    (docs,) = loaded(tmp_path, REPLICAD_FOLDER_NAME="docs", REPLICAD_FOLDER_PATH="/a").folders
    assert docs.settings == FolderSettings()
    kept, _ = kept_as_declared(loaded(tmp_path, text).folders, ())
    write_kept(tmp_path, kept)
    assert [folder.settings for folder in read_kept(tmp_path)] == [
        FolderSettings(quota_bytes=10 * 2**30, scan_interval_ms=0)
    ]


def test_what_is_preserved_and_the_groups_policy_are_declared_with_a_folder(tmp_path: Path) -> None:
    text = '[[folder]]\nname = "docs"\npath = "/a"\npreserved_quota = "1GiB"\npreserved_min_age = "7d"\n'
    (docs,) = loaded(tmp_path, text + 'conflicts = "sibling"\n').folders
    assert docs.settings == FolderSettings(preserved_quota_bytes=2**30, preserved_min_age_ms=7 * 86_400_000)
    assert docs.conflicts == "sibling"
    (docs,) = loaded(tmp_path, text).folders
    assert docs.conflicts is None, "nothing is declared of it"


def test_a_damaged_list_of_folders_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folders.toml").write_text("[[folder]]\nname = 3\n")
    with pytest.raises(OperatorError, match=r"folders\.toml cannot be used"):
        read_kept(tmp_path)
