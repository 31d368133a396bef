"""What the documents name is there: commands, options, settings, fields of the status, tests. And what no file may say.

Only what is written as code counts (`replicad status`, a block of TOML or JSON). That everything there is has been
described is not shown here.
"""

import argparse
import ast
import json
import re
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from replicad.cli.parser import build_parser
from replicad.config import home
from replicad.config.layers import HOME_VARIABLE, variable
from replicad.config.schema import SCHEMA
from replicad.core.cnset import EMPTY
from replicad.core.ids import FolderId, MemberId
from replicad.engine.folder_status import Backlog, BacklogOut, FolderStatus, Look
from replicad.ops.openapi import description
from replicad.ops.status import FolderRow, MemberRow, Snapshot, status_json

ROOT = Path(__file__).resolve().parents[1]
MEMBER = MemberId("00" * 32)
COMPOSE = ROOT / "docker-compose.yml"
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|\n)+")
SPAN = re.compile(r"`([^`\n]+)`")
LINKED = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
VARIABLE = re.compile(r"\bREPLICAD_[A-Z_]*[A-Z]\b")
ROWS = {"P": 22, "L": 8, "C": 13, "D": 10, "R": 20}
"""How many rows of requirements each letter has."""

# In pieces, so that this file keeps its own rule.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("crates", "io"), ("golang", "org"), ("ghcr", "io"),
        ("quay", "io"), ("hub", "docker", "com"), ("registry-1", "docker", "io"), ("index", "docker", "io"),
    )
)  # fmt: skip
ONE_MACHINES_PATHS = tuple("/".join(("", *parts, "")) for parts in (("work",), ("opt", "wheels"), ("opt", "pypi")))


@cache
def tracked() -> tuple[Path, ...]:
    """What git has; a copy without git has nothing else."""
    if not (ROOT / ".git").exists():
        return tuple(sorted(path for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def pages() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, *languages: str) -> Iterator[str]:
    for found in BLOCK.finditer(text):
        if found["language"] in languages:
            yield found["text"]


def prose(text: str) -> str:
    """Without blocks."""
    return INDENTED.sub("\n", BLOCK.sub("\n", text))


def section(text: str, title: str) -> str:
    """What stands under `## title`."""
    return re.split(r"^## ", text.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


def shell_blocks(text: str) -> Iterator[str]:
    yield from blocks(text, "", "sh", "bash", "console")
    yield from (found[0] for found in INDENTED.finditer(BLOCK.sub("\n", text)))


def command_lines(text: str) -> Iterator[str]:
    """Every `replicad …` in a span, and in a block of commands; the commands of a table without that word."""
    for span in SPAN.findall(prose(text)):
        if re.match(r"(\$ )?replicad [a-z]", span):
            yield span.removeprefix("$ ")
    for cell in re.findall(r"^\| (`.*?)(?<!\\)\|", section(text, "Commands"), re.MULTILINE):
        group = ""
        for span in SPAN.findall(cell.replace("\\|", "|")):
            words = span.split()
            # `folder list`, `set`: the second is of the same group.
            yield f"replicad {span}" if words[0] in actions_of(build_parser()) else f"replicad {group} {span}"
            group = words[0] if len(words) > 1 else group
    for block in shell_blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|\s)(replicad [a-z-].*)", line)
            if found:
                yield found[1]


def actions_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def fault_of(line: str) -> str | None:
    """Why the command line names something that is not there. Placeholders are not looked at."""
    parser: argparse.ArgumentParser = build_parser()
    words = line.partition("#")[0].split()[1:]
    while words and (choices := actions_of(parser)) and not words[0].startswith("-"):
        names = words.pop(0).split("|")
        for name in names:
            if name not in choices:
                return f"there is no command {name}"
        parser = choices[names[0]]
    known = {option for action in parser._actions for option in action.option_strings}
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", " ".join(words)):
        if option not in known:
            return f"{parser.prog} has no option {option}"
    return None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("replicad status --json", None),
        ("replicad folder join NAME PATH [--merge]", None),
        ("replicad stauts", "there is no command stauts"),
        ("replicad folder joyn docs /data", "there is no command joyn"),
        ("replicad wait --member 3", "replicad wait has no option --member"),
    ],
)
def test_a_command_that_is_not_there_is_noticed(line: str, fault: str | None) -> None:
    assert fault_of(line) == fault


def test_every_command_and_option_in_the_documents_exists() -> None:
    texts = {path: path.read_text() for path in (*pages(), COMPOSE)}
    # The comments at the top of the compose file are commands.
    texts[COMPOSE] = "```\n" + re.sub(r"^# ?", "", texts[COMPOSE], flags=re.MULTILINE) + "\n```"
    lines = [(name_of(path), line) for path, text in texts.items() for line in command_lines(text)]
    assert lines
    assert [(page, line, fault) for page, line in lines if (fault := fault_of(line))] == []


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [
        (name_of(page), target)
        for page in pages()
        for code in (*SPAN.findall(prose(page.read_text())), *shell_blocks(page.read_text()))
        for target in re.findall(r"\bmake(?: [A-Z]+=\S+)* ([a-z]+)", code)
    ]
    assert named
    assert [(page, target) for page, target in named if target not in targets] == []


def test_every_setting_in_the_documents_exists() -> None:
    variables = {variable(section, key) for section, keys in SCHEMA.items() for key in keys} | {HOME_VARIABLE}
    files = {value for key, value in vars(home).items() if key.isupper()}  # group.json is no setting
    spans = re.compile(rf"({'|'.join(SCHEMA)})\.([a-z_]+)")
    wrong: list[tuple[str, str]] = []
    for path in (*pages(), COMPOSE, ROOT / "Dockerfile"):
        text, page = path.read_text(), name_of(path)
        compose_only = {"REPLICAD_SECRETS"}  # where compose finds the secrets; replicad never sees it
        wrong += [(page, name) for name in VARIABLE.findall(text) if name not in variables | compose_only]
        if path.suffix != ".md":
            continue
        for span in SPAN.findall(text):
            named = spans.fullmatch(span)
            if named and span not in files and named[2] not in SCHEMA[named[1]]:
                wrong.append((page, span))
        for block in blocks(text, "toml"):
            wrong += [(page, name) for name in unknown_settings(tomllib.loads(block))]
    wrong += [("member.toml", name) for name in unknown_settings(tomllib.loads(declared()))]
    assert wrong == []


def declared() -> str:
    return (ROOT / "deploy" / "member.toml").read_text()


def unknown_settings(content: dict[str, Any]) -> list[str]:
    wrong = []
    for section, tables in content.items():
        for table in tables if isinstance(tables, list) else [tables]:
            wrong += [f"{section}.{key}" for key in table if key not in SCHEMA.get(section, {})]
    return wrong


def test_every_field_of_the_status_in_the_documents_exists() -> None:
    real = status_json(a_snapshot())
    wrong = []
    for page in pages():
        for block in blocks(page.read_text(), "json"):
            shown = json.loads(block)
            if isinstance(shown, dict) and {"member", "folders"} <= shown.keys():
                wrong += [(name_of(page), field) for field in fields_beyond(shown, real)]
    named = re.findall(r"`([a-z_]+)`", section((ROOT / "README.md").read_text(), "Status"))
    assert named
    wrong += [("README.md", field) for field in named if field not in real["folders"][0]]
    assert wrong == []


def fields_beyond(shown: Any, real: Any, where: str = "") -> Iterator[str]:
    if isinstance(shown, dict) and isinstance(real, dict):
        for key, value in shown.items():
            if key in real:
                yield from fields_beyond(value, real[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}"
    elif isinstance(shown, list) and isinstance(real, list):
        for value in shown:
            yield from fields_beyond(value, real[0], f"{where}[]")


def a_snapshot() -> Snapshot:
    """One of everything that has fields."""
    look = Look(
        replica=1, state=4, state_name="Normal", reason="", held=False, polled="", scanning=False, lag_s=0.02,
        staging_used_bytes=0, staging_quota_bytes=1, missing=EMPTY, others=(), blocked=((b"path", "reason"),),
        blocked_count=1, now_ms=0,
    )  # fmt: skip
    backlog = Backlog(1, 1, 1.0)
    status = FolderStatus(look, 1, 1, backlog, (BacklogOut(MEMBER, 1, 1, 1.0, 0),), (0, 0), (0, 0))
    return Snapshot(
        member=MEMBER, name="alpha", version="1", replica=1, uptime_s=1.0, addresses=[""], api=[""],
        group=("1", "demo"), members=[MemberRow(MEMBER, "beta", True, "beta:7722", 0.8, 0)],
        folders=[FolderRow(FolderId(b"1"), "docs", "/data", status)],
    )  # fmt: skip


def test_every_endpoint_in_the_documents_exists() -> None:
    paths = set(description()["paths"]) | {"/v1"}
    found = [
        (name_of(page), path)
        for page in pages()
        if page.name != "net.md"  # between members: other endpoints
        for span in SPAN.findall(prose(page.read_text()))
        for path in re.findall(r"^(?:GET |POST )?(/(?:v1/|healthz|readyz)[\w/.{}-]*)", span)
    ]
    assert [(page, path) for page, path in found if path not in paths] == []


def test_every_link_between_the_documents_leads_somewhere() -> None:
    targets = [(page, target) for page in pages() for target in LINKED.findall(page.read_text())]
    assert [(name_of(page), target) for page, target in targets if not (page.parent / target).exists()] == []


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    forbidden = re.compile("|".join(map(re.escape, (*REGISTRIES, *ONE_MACHINES_PATHS))).encode(), re.IGNORECASE)
    found = [(name_of(path), match[0]) for path in tracked() for match in forbidden.finditer(path.read_bytes())]
    assert found == []


# -- docs/requirements.md


def marked_tests() -> dict[str, set[str]]:
    """Row → the tests that are marked with it."""
    marked = defaultdict(set)
    for path in tracked():
        if path.suffix != ".py" or "tests" not in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement":
                        for row in mark.args:
                            assert isinstance(row, ast.Constant)
                            marked[str(row.value)].add(f"{name_of(path)}::{node.name}")
    return dict(marked)


def test_the_requirements_page_has_a_row_for_every_marked_requirement_and_no_other() -> None:
    marked = marked_tests()
    text = (ROOT / "docs" / "requirements.md").read_text()
    rows = {
        row: set(re.findall(r"`(tests/[^`]+)`", tests))
        for row, tests in re.findall(r"^\| ([PLCDR]\d+) \|[^|\n]+\|([^|\n]+)\|$", text, re.MULTILINE)
    }
    assert sorted(rows) == sorted(marked)
    assert [row for row, tests in rows.items() if not tests or not tests <= marked[row]] == []
    not_yet = re.findall(r"\b[PLCDR]\d+\b", text.partition("## Not yet")[2])
    every = [f"{letter}{number}" for letter, count in ROWS.items() for number in range(1, count + 1)]
    assert sorted([*rows, *not_yet]) == sorted(every)
