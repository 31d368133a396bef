"""Help worth reading, and a start that costs little."""

import argparse
import re
import subprocess
import sys

import pytest

from replicad import __version__
from replicad.cli.main import main
from replicad.cli.parser import build_parser


def parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                found.extend(parsers(one))
    return found


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"replicad {__version__}\n"


@pytest.mark.parametrize("parser", parsers(build_parser()), ids=lambda parser: parser.prog)
def test_every_command_has_help_that_says_what_it_does(parser: argparse.ArgumentParser) -> None:
    assert parser.description
    assert "exit status" in parser.format_help()
    for action in parser._actions:
        if action.option_strings:
            assert action.help, f"{parser.prog} {action.option_strings} has no help"


@pytest.mark.parametrize("command", [["status"], ["wait", "--folder", "docs"], ["folder", "set", "x", "a=b"]])
def test_home_and_json_may_stand_before_or_after_the_command(command: list[str]) -> None:
    for arguments in (["--home", "/h", "--json", *command], [*command, "--home", "/h", "--json"]):
        options = build_parser().parse_args(arguments)
        assert (str(options.home), options.json) == ("/h", True)
    options = build_parser().parse_args(command)
    assert (options.home, options.json) == (None, False)


def test_a_command_that_asks_the_daemon_imports_nothing_heavy() -> None:
    program = "import sys, replicad.cli.show, replicad.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"aiohttp", "sqlalchemy", "alembic", "cryptography", "watchdog", "asyncio", "replicad.engine.folder"}
    assert heavy.isdisjoint(loaded)


def test_every_command_named_in_the_interface_is_there() -> None:
    """INTERFACE, its first block."""
    progs = {re.sub("^replicad ", "", parser.prog) for parser in parsers(build_parser())}
    wanted = {
        "init", "invite", "join", "folder create", "folder join", "folder list", "folder set", "folder leave",
        "folder remove", "member list", "member remove", "token", "run", "status", "wait",
    }  # fmt: skip
    assert wanted <= progs
