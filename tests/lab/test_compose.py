"""Three declared members in three real containers, as docker-compose.yml has them.

The engine, the image and the names in the containers are real; the folders' volumes are read on the host, by the
comparer that shares no code with replicad.
"""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tree_compare import assert_same_trees, read_tree

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]  # building the base image takes half a minute alone

ROOT = Path(__file__).resolve().parents[2]
LAB = Path(__file__).resolve().parent
MEMBERS = ("alpha", "beta", "gamma")
COMMAND_LIMIT_S = 600.0  # of one command, the building of the image included
WAIT_S = 60


def run(*command: str, environment: dict[str, str] | None = None, stdin: str | None = None) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=stdin, capture_output=True, text=True, timeout=COMMAND_LIMIT_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def engine() -> None:
    run(str(LAB / "docker-up"))
    run(str(LAB / "base-image"))


class Stack:
    """The project's own compose file, under a name and on ports of the test's own."""

    def __init__(self, secrets: Path) -> None:
        self.name = f"replicad-lab-{os.getpid()}"
        self.secrets = secrets
        self.environment = pip_settings() | os.environ | {"REPLICAD_SECRETS": str(secrets)}
        self.environment |= {f"{member.upper()}_PORT": "0" for member in MEMBERS}  # any that is free

    def compose(self, *arguments: str, stdin: str | None = None) -> str:
        return run("docker", "compose", "-p", self.name, *arguments, environment=self.environment, stdin=stdin)

    def shell(self, member: str, script: str) -> str:
        return self.compose("exec", "-T", member, "sh", "-eu", stdin=script)

    def wait(self, member: str) -> None:
        self.compose("exec", "-T", member, "replicad", "wait", "--members", "3", "--timeout", str(WAIT_S))

    def folder(self, member: str) -> Path:
        volume = f"{self.name}_{member}-data"
        return Path(run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip())

    def folders(self) -> list[Path]:
        return [self.folder(member) for member in MEMBERS]

    def get(self, member: str, path: str, token: str | None) -> Any:
        address = self.compose("port", member, "7723").strip()
        request = urllib.request.Request(f"http://{address}{path}")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def status(self, member: str) -> Any:
        return self.get(member, "/v1/status", (self.secrets / "api").read_text().strip())


def pip_settings() -> dict[str, str]:
    """What this machine's pip is told of package indexes, as the build arguments that the Dockerfile takes.

    An index in a local directory is left out: no container reaches it.
    """
    listed = run(sys.executable, "-m", "pip", "config", "list")
    settings = {}
    for option, value in re.findall(r"^(?:global|install)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE):
        reachable = " ".join(part for part in value.split() if not part.startswith(("file:", "/")))
        if option in {"index-url", "extra-index-url", "trusted-host"} and reachable:
            settings[f"PIP_{option.replace('-', '_').upper()}"] = reachable
    return settings


@pytest.fixture(scope="module")
def stack(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    secrets = tmp_path_factory.mktemp("secrets")
    run(str(ROOT / "deploy" / "make-secrets"), str(secrets))
    stack = Stack(secrets)
    try:
        try:
            stack.compose("up", "--detach", "--build", "--wait")
        except AssertionError as error:
            error.add_note(stack.compose("logs", "--no-color", "--tail", "50"))
            raise
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "30")


def test_the_image_holds_what_replicad_needs_and_no_more(stack: Stack) -> None:
    names = "import importlib.metadata as m, os; print(os.getuid(), *(d.name.lower() for d in m.distributions()))"
    uid, *installed = stack.compose("exec", "-T", "alpha", "python", "-c", names).split()
    assert int(uid) != 0
    assert {"replicad", "aiohttp", "sqlalchemy", "alembic"} <= set(installed)
    assert not {"pip", "hatchling", "pytest", "mypy", "ruff", "hypothesis"} & set(installed)


def test_three_members_started_at_once_are_one_group_with_one_folder(stack: Stack) -> None:
    stack.wait("alpha")
    statuses = [stack.status(member) for member in MEMBERS]
    assert [status["member"]["name"] for status in statuses] == list(MEMBERS)
    assert len({status["member"]["id"] for status in statuses}) == 3
    assert len({(status["group"]["id"], status["group"]["name"]) for status in statuses}) == 1
    assert len({status["folders"][0]["id"] for status in statuses}) == 1
    for status in statuses:
        others = {member["name"]: member["connected"] for member in status["members"]}
        assert others == {name: True for name in MEMBERS if name != status["member"]["name"]}
        (folder,) = status["folders"]
        assert (folder["name"], folder["path"], folder["state_name"]) == ("docs", "/data", "Normal")


def test_what_is_written_into_one_folder_is_read_in_the_others(stack: Stack) -> None:
    stack.shell(
        "alpha",
        """
        mkdir -p /data/d/empty /data/e
        echo hello >/data/d/greeting
        : >/data/d/nothing
        head -c 3000000 /dev/urandom >/data/e/big
        chmod 640 /data/d/greeting
        touch -d '2020-02-02 02:02:02.123456789' /data/d/greeting
        ln -s d/greeting /data/link
        """,
    )
    stack.wait("alpha")
    assert stack.shell("gamma", "cat /data/link") == "hello\n"
    assert len(read_tree(stack.folder("beta"))) == 7
    assert_same_trees(*stack.folders())

    stack.shell("beta", "echo more >>/data/d/greeting; mv /data/e /data/renamed")
    stack.shell("gamma", "rm /data/d/nothing; echo new >/data/from-gamma")
    stack.wait("alpha")
    assert sorted(read_tree(stack.folder("alpha"))) == [
        b"d", b"d/empty", b"d/greeting", b"from-gamma", b"link", b"renamed", b"renamed/big",
    ]  # fmt: skip
    assert stack.shell("alpha", "cat /data/d/greeting") == "hello\nmore\n"
    assert_same_trees(*stack.folders())


def test_a_stopped_container_catches_up_with_what_happened_on_both_sides(stack: Stack) -> None:
    stack.compose("stop", "beta")
    stack.shell("alpha", "echo while beta was away >/data/news")
    written = stack.folder("beta") / "by-hand"
    written.write_text("while the daemon was stopped")
    os.chown(written, 7722, 7722)
    stack.compose("up", "--detach", "--no-build", "--wait")
    stack.wait("gamma")
    assert stack.shell("gamma", "cat /data/by-hand") == "while the daemon was stopped"
    assert stack.shell("beta", "cat /data/news") == "while beta was away\n"
    assert_same_trees(*stack.folders())


def test_every_member_answers_for_its_status_over_tcp(stack: Stack) -> None:
    stack.wait("beta")
    for member in MEMBERS:
        (folder,) = stack.status(member)["folders"]
        assert folder["backlog_in"]["files"] == 0
        assert {row["member"]: row["files"] for row in folder["backlog_out"]} == dict.fromkeys(
            set(MEMBERS) - {member}, 0
        )
        assert folder["blocked"] == []
        for path in ("/healthz", "/readyz"):
            address = stack.compose("port", member, "7723").strip()
            with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
                assert response.status == 200


def test_status_is_not_told_off_loopback_without_the_token(stack: Stack) -> None:
    for token in (None, "wrong"):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            stack.get("alpha", "/v1/status", token)
        assert refusal.value.code in (401, 403)
        refusal.value.close()
