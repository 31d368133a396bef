"""Three members on this machine, one folder, a real tree: `make demo` (ONCE=1: verify the trees and end).

Everything is done by the commands that an operator would type; they are printed as they are run. All of it lies in
demo/ beside this directory, which each run begins anew.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.tree_compare import assert_same_trees, read_tree  # noqa: E402  (found by the line above)

DEMO = ROOT / "demo"
MARK = DEMO / ".made-by-make-demo"
NAMES = ("alpha", "beta", "gamma")
WAIT_S = 120
START_S = 30.0
STOP_S = 20.0


class Failed(Exception):
    """The demo cannot go on; the text says why."""


class Member:
    """A home, a folder and a daemon."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.home = DEMO / name / "home"
        self.folder = DEMO / name / "docs"
        self.log = DEMO / name / "log"
        self.log.parent.mkdir(parents=True)
        self.daemon: subprocess.Popen[bytes] | None = None

    def replicad(self, *arguments: str, quiet: bool = False) -> str:
        """Run a command on this member's home; its output."""
        if not quiet:
            say(f"  $ replicad {' '.join(_short(part) for part in (*arguments, '--home', str(self.home)))}")
        command = [sys.executable, "-m", "replicad", *arguments, "--home", str(self.home)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode != 0:
            raise Failed(f"replicad {arguments[0]} on {self.name}: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    def start(self) -> None:
        say(f"  $ replicad run --home {_short(str(self.home))} &")
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "replicad", "run", "--home", str(self.home)]
            # In a group of its own: Ctrl-C is for the demo, which then ends the daemons in order.
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        end = time.monotonic() + START_S
        while not self._answers():
            if self.daemon.poll() is not None or time.monotonic() > end:
                raise Failed(f"{self.name} does not start, see {self.log}:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        if self.daemon is None:
            return
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()

    def status(self) -> dict[str, Any]:
        shot: dict[str, Any] = json.loads(self.replicad("status", "--json", quiet=True))
        return shot

    def _answers(self) -> bool:
        try:
            return bool(self.status()["member"]["addresses"])
        except Failed:
            return False


def main() -> int:
    begin_anew()
    members = [Member(name) for name in NAMES]
    try:
        found_group(members)
        copy_tree(members[0])
        converge(members, "every member has the tree")
        change_everywhere(members)
        converge(members, "all changes are on all members")
        show(members)
        if os.environ.get("ONCE") != "1":
            say("\nRunning on: change what you like in any of the folders. Ctrl-C ends the demo.")
            signal.pause()
    except KeyboardInterrupt:
        say("\nending")
    except Failed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        for member in members:
            member.stop()
    return 0


def begin_anew() -> None:
    """Only what an earlier demo made is removed."""
    if DEMO.exists():
        if not MARK.exists():
            raise SystemExit(f"demo: {DEMO} is there and was not made by the demo: move it away")
        shutil.rmtree(DEMO)
    DEMO.mkdir()
    MARK.touch()


def found_group(members: Sequence[Member]) -> None:
    first, *others = members
    local = ["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]
    say("Alpha founds a group, and a folder in it:")
    first.replicad("init", "--name", first.name, "--group", "demo", *local)
    first.start()
    first.replicad("folder", "create", "docs", str(first.folder))
    for member in others:
        say(f"\n{member.name.capitalize()} joins with a token from alpha, and keeps the folder too:")
        token = first.replicad("invite")
        member.replicad("join", token, "--name", member.name, *local)
        member.replicad("folder", "join", "docs", str(member.folder))
        member.start()


def copy_tree(member: Member) -> None:
    source = Path(sysconfig.get_paths()["stdlib"])
    say(f"\nThe Python library's source, {source}, is copied into alpha's folder.")
    ignored = shutil.ignore_patterns("__pycache__", "site-packages", "dist-packages", "*.so", "*.a", "*.o")
    shutil.copytree(source, member.folder / "python", symlinks=True, ignore=ignored, dirs_exist_ok=True)


def change_everywhere(members: Sequence[Member]) -> None:
    alpha, beta, gamma = (member.folder / "python" for member in members)
    say("\nAt the same time: alpha edits 100 files, beta renames a directory, gamma deletes one and writes new files.")
    for path in sorted(alpha.glob("*.py"))[:100]:
        with path.open("a") as file:
            file.write("# edited on alpha\n")
    (beta / "asyncio").rename(beta / "asyncio-renamed-on-beta")
    shutil.rmtree(gamma / "email")
    for number in range(100):
        (gamma / f"new-on-gamma-{number}.txt").write_text(f"file {number}\n")


def converge(members: Sequence[Member], what: str) -> None:
    began = time.monotonic()
    members[0].replicad("wait", "--members", str(len(members)), "--timeout", str(WAIT_S))
    seconds = time.monotonic() - began
    try:
        assert_same_trees(*(member.folder for member in members))
    except AssertionError as error:
        raise Failed(f"the trees differ: {error}") from error
    tree = read_tree(members[0].folder)
    size = sum(entry.size or 0 for entry in tree.values())
    say(f"  {what}: {len(tree)} names, {size / 2**20:.0f} MiB, compared and equal, {seconds:.1f} s")


def show(members: Sequence[Member]) -> None:
    say("\nThe folders:")
    for member in members:
        say(f"  {member.name:6} {member.folder}")
    say("\nThe status of each, as JSON or for people:")
    for member in members:
        api = member.status()["member"]["api"][0]
        say(
            f"  http://{api}/v1/status    {_short(sys.executable)} -m replicad status --home {_short(str(member.home))}"
        )
    say("")
    say(members[0].replicad("status", quiet=True))


def say(text: str) -> None:
    print(text, flush=True)


def _short(text: str) -> str:
    """A path below the project as it is typed there; a token without its middle."""
    text = text.removeprefix(f"{ROOT}/")
    return f"{text[:12]}..." if len(text) > 100 else text


if __name__ == "__main__":
    sys.exit(main())
