"""Plants: a test counts when it goes red as soon as the code it guards is broken.

    python -m tests.plants.run [--jobs N] [--green] [NAME ...]

Each `NAME.patch` beside this file begins with

    # breaks: what is taken out
    # red: tests/core/test_x.py::test_name         (one line or more)

and goes on with a diff for `git apply -p1`. The red tests are run once as the code stands and must be green. Then each
patch is applied to a copy of the project, and each of its red tests must fail there, within RED_LIMIT_S, by an
assertion or an exception in the test's body: not by an error while collecting or setting up, not by running out of
time, not by code that cannot even be imported. A patch that does not apply, and a red test that does not exist, fail
loudly. Of a parametrized test one failing case is enough. The runs are forked from processes that have imported pytest
and the libraries already, and nothing of the project (tests/plants/warm.py).

The project is what git knows or would add; `.venv` and the like are not copied. CI's rule that a skip is a failure is
off in here: a skipped test is not a red one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

RED_LIMIT_S = 10.0  # a plant that takes longer costs more than it proves
RUN_LIMIT_S = 300.0  # one whole pytest run, imports included; only a hang takes so long
JOBS_MAX = 4  # each is a pytest of its own, most of it importing


@dataclass(frozen=True, slots=True)
class Plant:
    name: str
    patch: Path
    breaks: str
    red: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One phase of one test, as red_report wrote it down."""

    id: str
    phase: str
    outcome: str
    broken: bool
    late: bool
    reason: str

    def is_of(self, red: str) -> bool:
        return red in (self.id, self.id.partition("[")[0])


class PlantError(Exception):
    """A plant that proves nothing; the text says why."""


def read_plant(patch: Path) -> Plant:
    """PlantError where the header lacks a line."""
    breaks, red = "", []
    for line in patch.read_text().splitlines():
        if not line.startswith("#"):
            break
        key, _, value = line.lstrip("# ").partition(":")
        if key == "breaks":
            breaks = value.strip()
        elif key == "red":
            red.append(value.strip())
    if not breaks or not red:
        raise PlantError("the patch must begin with '# breaks: …' and '# red: …'")
    return Plant(patch.stem, patch, breaks, tuple(red))


def judge_green(plant: Plant, outcomes: list[Outcome]) -> None:
    """PlantError unless each red test is green while nothing is planted."""
    for red in plant.red:
        mine = [outcome for outcome in outcomes if outcome.is_of(red)]
        if not mine:
            raise PlantError(f"{red} does not exist, or cannot be collected")
        failed = [outcome for outcome in mine if outcome.outcome == "failed"]
        if failed:
            raise PlantError(f"{failed[0].id} is red without the plant: {failed[0].reason}")
        if not any(outcome.phase == "call" and outcome.outcome == "passed" for outcome in mine):
            raise PlantError(f"{red} is skipped here: {mine[0].reason}")


def judge_red(plant: Plant, outcomes: list[Outcome]) -> None:
    """PlantError unless each red test failed, and as it should."""
    for red in plant.red:
        mine = [outcome for outcome in outcomes if outcome.is_of(red)]
        failed = [outcome for outcome in mine if outcome.outcome == "failed"]
        if any(outcome.phase == "call" and not outcome.broken and not outcome.late for outcome in failed):
            continue
        if not mine:
            raise PlantError(f"{red} did not run: the planted code cannot be collected, or the run was ended")
        if not failed:
            raise PlantError(f"{red} stays green")
        first = failed[0]
        if first.late:
            raise PlantError(f"{red} does not fail within {RED_LIMIT_S:g} s")
        if first.broken:
            raise PlantError(f"{red} fails because the planted code is not valid: {first.reason}")
        raise PlantError(f"{red} fails in its {first.phase}, not in its body: {first.reason}")


def copy_project(root: Path, target: Path) -> None:
    """The files that git has or would add, as they are in the work tree now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source = root / name
        if source.is_file():  # one that is deleted and not yet committed is listed too
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


class Runner:
    """A process of tests/plants/warm.py: runs pytest, one run at a time."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [sys.executable, HERE / "warm.py"],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, project: Path, arguments: list[str], environment: dict[str, str]) -> None:
        """Ends with nothing of it left running."""
        order = {
            "arguments": arguments,
            "cwd": str(project),
            "environment": environment,
            "path": [str(project), str(HERE)],
            "limit_s": RUN_LIMIT_S,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        if not self._process.stdout.readline():
            raise SystemExit(f"what runs the tests has ended with status {self._process.wait()}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Runners:
    """One for each plant that is tried at a time."""

    def __init__(self, jobs: int) -> None:
        self._free: SimpleQueue[Runner] = SimpleQueue()
        self.jobs = jobs
        self._all = [Runner() for _ in range(jobs)]
        for runner in self._all:
            self._free.put(runner)

    @contextmanager
    def one(self) -> Iterator[Runner]:
        runner = self._free.get()
        try:
            yield runner
        finally:
            self._free.put(runner)

    def __enter__(self) -> "Runners":
        return self

    def __exit__(self, *exc: object) -> None:
        for runner in self._all:
            runner.close()


def compile_tests(runner: Runner, base: Path, tests: list[str]) -> None:
    """Leaves the compiled forms of all sources beside them, for every copy to share; pytest has its own of tests."""
    run_tests(runner, base, tests, limit_s=None, stop_when_red=False, more=["--collect-only"])


def run_tests(
    runner: Runner,
    project: Path,
    tests: list[str],
    *,
    limit_s: float | None,
    stop_when_red: bool,
    more: Sequence[str] = (),
) -> list[Outcome]:
    """The outcomes of `tests` in `project`; a test that could not be run, or not to its end, has none."""
    files = sorted({test.partition("::")[0] for test in tests})
    present = [file for file in files if (project / file).is_file()]
    if not present:
        return []
    with tempfile.TemporaryDirectory(prefix="plant-run-") as scratch:
        order, results = Path(scratch, "order"), Path(scratch, "results")
        order.write_text(json.dumps({"tests": tests, "limit_s": limit_s, "stop_when_red": stop_when_red}))
        arguments = [
            "-p", "red_report", "-p", "no:cacheprovider", "-q", "--continue-on-collection-errors",
            f"--basetemp={scratch}/tmp", "--hypothesis-seed=0", *more, *present,
        ]  # fmt: skip
        # Programs that a test starts must be the planted ones too, wherever they are started.
        environment = os.environ | {
            "PYTHONPATH": f"{project}{os.pathsep}{HERE}",
            "RED_TESTS": str(order),
            "RED_RESULTS": str(results),
        }
        environment.pop("CI", None)
        runner.run(project, arguments, environment)
        lines = results.read_text().splitlines() if results.exists() else []
    return [Outcome(**json.loads(line)) for line in lines]


def apply_patch(project: Path, patch: Path) -> None:
    """PlantError where it does not apply exactly. Compiled forms of what it touches are dropped.

    Python trusts a compiled file whose source has the same size and the same second; a patch may change neither.
    """
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(project.parent)}
    git_apply = ["git", "apply", "-p1", "--whitespace=nowarn"]
    touched = subprocess.run(
        [*git_apply, "--numstat", "-z", str(patch)], cwd=project, env=environment, capture_output=True, text=True
    )
    applied = subprocess.run([*git_apply, str(patch)], cwd=project, env=environment, capture_output=True, text=True)
    if touched.returncode or applied.returncode:
        raise PlantError(f"does not apply: {'; '.join((touched.stderr or applied.stderr).splitlines())}")
    for line in filter(None, touched.stdout.split("\0")):
        source = project / line.split("\t")[2]
        for compiled in (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"):
            compiled.unlink()


def try_plant(runners: Runners, plant: Plant, base: Path) -> None:
    """PlantError where the plant proves nothing."""
    with tempfile.TemporaryDirectory(prefix=f"{plant.name}-", dir=base.parent) as scratch:
        project = Path(scratch, "project")
        # Whoever changes a file of this tree (git, Python its compiled forms) makes it anew: `marks` would tell.
        shutil.copytree(base, project, copy_function=os.link)
        apply_patch(project, plant.patch)
        with runners.one() as runner:
            judge_red(plant, run_tests(runner, project, list(plant.red), limit_s=RED_LIMIT_S, stop_when_red=True))


def marks(project: Path) -> dict[Path, tuple[int, int]]:
    """Size and mtime of every file; not of compiled ones, which are made on the way."""
    found = {path: path.stat() for path in project.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def check_copy_is_used(project: Path) -> None:
    """The whole proof is void if `import replicad` in the copy finds the checkout."""
    found = subprocess.run(
        [sys.executable, "-c", "import replicad; print(replicad.__file__)"],
        cwd="/", env=os.environ | {"PYTHONPATH": str(project)}, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    if Path(found) != project / "replicad" / "__init__.py":
        raise SystemExit(f"replicad is imported from {found}, not from the copy in {project}")


def run(root: Path, patches: list[Path], runners: Runners, *, green: bool = False) -> int:
    """Tries every plant and prints a line for each; returns how many failed. `green`: that the tests are so without
    their plants has just been seen."""
    plants: list[Plant] = []
    failed = 0

    def report(name: str, error: PlantError | None, text: str) -> None:
        nonlocal failed
        failed += error is not None
        print(f"FAIL {name}: {error}" if error else f"ok   {name}: {text}", flush=True)

    for patch in patches:
        try:
            plants.append(read_plant(patch))
        except PlantError as error:
            report(patch.stem, error, "")
    with tempfile.TemporaryDirectory(prefix="plants-") as scratch:
        base = Path(scratch).resolve() / "project"
        copy_project(root, base)
        check_copy_is_used(base)
        tests = sorted({red for plant in plants for red in plant.red})
        outcomes: list[Outcome] = []
        with runners.one() as runner:
            if green:
                compile_tests(runner, base, tests)
            else:
                outcomes = run_tests(runner, base, tests, limit_s=None, stop_when_red=False)
        untouched = marks(base)

        def judge(plant: Plant) -> tuple[PlantError | None, float]:
            started = time.monotonic()
            try:
                if not green:
                    judge_green(plant, outcomes)
                try_plant(runners, plant, base)
            except PlantError as error:
                return error, time.monotonic() - started
            return None, time.monotonic() - started

        with ThreadPoolExecutor(runners.jobs) as pool:
            for plant, (fault, took_s) in zip(plants, pool.map(judge, plants), strict=True):
                report(plant.name, fault, f"{plant.breaks} ({took_s:.1f} s)")
        if marks(base) != untouched:
            raise SystemExit("a test has written into the project: what was tried after it proves nothing")
    print(f"{len(patches) - failed} passed, {failed} failed")
    return failed


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.plants.run", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=min(JOBS_MAX, os.cpu_count() or 1), help="plants tried at once")
    parser.add_argument("--green", action="store_true", help="all tests have just passed: do not run them first")
    parser.add_argument("names", nargs="*", metavar="NAME", help="the plants to try; all if none is named")
    options = parser.parse_args(arguments)
    patches = {patch.stem: patch for patch in sorted(HERE.glob("*.patch"))}
    unknown = [name for name in options.names if name not in patches]
    if unknown:
        parser.error(f"no such plant: {', '.join(unknown)}")
    chosen = [patches[name] for name in options.names] or list(patches.values())
    if not chosen:
        print(f"no plants in {HERE}", file=sys.stderr)
        return 1
    with Runners(options.jobs) as runners:
        return 1 if run(ROOT, chosen, runners, green=options.green) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
