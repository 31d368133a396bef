"""The runner is tried on a small project: each way in which a plant can prove nothing must be told from a proof."""

import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plants.run import Plant, PlantError, Runners, read_plant, run

CODE = """\
LIMIT = 3


def double(n):
    return n + n


def limited(n):
    return min(n, LIMIT)
"""

TESTS = """\
import subprocess
import sys
import time

import pytest

from replicad.code import LIMIT, double, limited


def test_double():
    assert double(2) == 4


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_limited(n):
    assert limited(n) <= 3


@pytest.mark.timeout(600)
def test_waits_if_the_limit_is_wrong():
    if LIMIT != 3:
        time.sleep(600)


def test_that_writes_into_the_project():
    if LIMIT != 3:
        with open("replicad/__init__.py", "a") as file:
            file.write("# changed")
    assert LIMIT == 3


def test_of_a_program():
    program = "from replicad.code import double; print(double(2))"
    assert subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True).stdout == b"4\\n"


@pytest.fixture
def doubled():
    assert double(2) == 4


def test_with_a_fixture(doubled):
    pass


def test_red_already():
    assert not "red"


@pytest.mark.skip(reason="not here")
def test_skipped():
    pass
"""

WRONG_SUM = ("return n + n", "return n * n + 1")
WRONG_LIMIT = ("LIMIT = 3", "LIMIT = 4")


@pytest.fixture(scope="module")
def runners() -> Iterator[Runners]:
    with Runners(2) as runners:
        yield runners


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "small"
    for name, text in {
        "replicad/__init__.py": "",
        "replicad/code.py": CODE,
        "tests/test_code.py": TESTS,
        "tests/test_unimportable.py": "import there_is_no_such_module\n\n\ndef test_it():\n    pass\n",
        "pyproject.toml": '[tool.pytest.ini_options]\naddopts = "-p no:asyncio"\n',
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "plants").mkdir()
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


def plant(project: Path, name: str, change: tuple[str, str], *tests: str) -> Path:
    """A patch that makes `change` in the code, with each of `tests` as a red one."""
    new = CODE.replace(*change)
    (project / "new").write_text(new)
    diff = subprocess.run(
        ["git", "diff", "--no-index", "--src-prefix=a/", "--dst-prefix=b/", "replicad/code.py", "new"],
        cwd=project, capture_output=True, text=True,
    ).stdout.replace("b/new", "b/replicad/code.py")  # fmt: skip
    (project / "new").unlink()
    red = "".join(f"# red: {test if '.py' in test else 'tests/test_code.py::' + test}\n" for test in tests)
    patch = project / "plants" / f"{name}.patch"
    patch.write_text(f"# breaks: {change[0]}\n{red}\n{diff}")
    return patch


def verdict(runners: Runners, project: Path, patch: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The plant's own line; the last one and the count of failures must agree with it."""
    failed = run(project, [patch], runners)
    line, last = capsys.readouterr().out.splitlines()
    assert last == f"{1 - failed} passed, {failed} failed"
    assert line.startswith(f"FAIL {patch.stem}: " if failed else f"ok   {patch.stem}: ")
    return line


@pytest.mark.parametrize("test", ["test_double", "test_of_a_program"])
def test_a_plant_whose_test_goes_red_passes(
    runners: Runners, project: Path, capsys: pytest.CaptureFixture[str], test: str
) -> None:
    assert verdict(runners, project, plant(project, "good", WRONG_SUM, test), capsys).startswith(
        "ok   good: return n + n"
    )


def test_one_failing_case_of_a_parametrized_test_is_enough(
    runners: Runners, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(runners, project, plant(project, "one", WRONG_LIMIT, "test_limited"), capsys).startswith("ok")
    assert verdict(runners, project, plant(project, "case", WRONG_LIMIT, "test_limited[5]"), capsys).startswith("ok")
    assert "stays green" in verdict(runners, project, plant(project, "other", WRONG_LIMIT, "test_limited[1]"), capsys)


def test_every_red_test_must_go_red(runners: Runners, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patch = plant(project, "half", WRONG_SUM, "test_double", "test_limited")
    assert "tests/test_code.py::test_limited stays green" in verdict(runners, project, patch, capsys)


@pytest.mark.parametrize(
    ("change", "test", "reason"),
    [
        (WRONG_SUM, "test_no_such", "test_no_such does not exist"),
        (WRONG_SUM, "tests/test_none.py::test_it", "test_it does not exist"),
        (WRONG_SUM, "tests/test_unimportable.py::test_it", "cannot be collected"),
        (WRONG_SUM, "test_red_already", "is red without the plant"),
        (WRONG_SUM, "test_skipped", "is skipped here: Skipped: not here"),
        (WRONG_SUM, "test_with_a_fixture", "fails in its setup, not in its body"),
        (("return n + n", "return n +"), "test_double", "did not run"),
        (("return n + n", "return n + m"), "test_double", "not valid: NameError"),
    ],
)
def test_what_is_red_for_the_wrong_reason_fails(
    runners: Runners, project: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], test: str, reason: str
) -> None:
    assert reason in verdict(runners, project, plant(project, "bad", change, test), capsys)


def test_a_patch_that_does_not_apply_fails(runners: Runners, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patch = plant(project, "old", WRONG_SUM, "test_double")
    (project / "replicad/code.py").write_text(CODE.replace("return n + n", "return 2 * n"))
    assert "does not apply: error: patch failed" in verdict(runners, project, patch, capsys)


def test_a_test_that_only_runs_out_of_time_fails(
    runners: Runners, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.plants.run.RED_LIMIT_S", 0.5)
    patch = plant(project, "slow", WRONG_LIMIT, "test_waits_if_the_limit_is_wrong")
    assert "does not fail within 0.5 s" in verdict(runners, project, patch, capsys)


def test_a_test_that_changes_the_tree_which_all_plants_share_ends_the_run(
    runners: Runners, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = plant(project, "writes", WRONG_LIMIT, "test_that_writes_into_the_project")
    with pytest.raises(SystemExit, match="has written into the project"):
        run(project, [patch], runners)


def test_each_run_has_the_modules_of_its_own_tree(
    runners: Runners, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = plant(project, "first", WRONG_SUM, "test_double")
    other = plant(project, "other", WRONG_LIMIT, "test_double")
    assert run(project, [first, other, first], runners) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in lines[:3]] == ["ok", "FAIL", "ok"]


def test_in_ci_a_skipped_test_is_still_not_a_red_one(
    runners: Runners, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "tests/conftest.py").write_text((Path(__file__).parents[1] / "conftest.py").read_text())
    monkeypatch.setenv("CI", "true")
    assert "is skipped here" in verdict(runners, project, plant(project, "skip", WRONG_SUM, "test_skipped"), capsys)


def test_one_bad_plant_does_not_stop_the_others(
    runners: Runners, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = project / "plants" / "bad.patch"
    bad.write_text("# breaks: nothing\n")
    missing = plant(project, "missing", WRONG_SUM, "tests/test_unimportable.py::test_it")
    good = plant(project, "good", WRONG_SUM, "test_double")
    assert run(project, [bad, missing, good], runners) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 2 failed"


def test_the_header_names_what_is_broken_and_every_red_test(tmp_path: Path) -> None:
    patch = tmp_path / "name.patch"
    patch.write_text("# breaks: the check\n# red: a.py::b\n# red: c.py::d[1]\n\ndiff --git a/x b/x\n# red: no::more\n")
    assert read_plant(patch) == Plant("name", patch, "the check", ("a.py::b", "c.py::d[1]"))


@pytest.mark.parametrize("header", ["", "# breaks: x\n", "# red: a.py::b\n", "\n# breaks: x\n# red: a.py::b\n"])
def test_a_header_that_lacks_a_line_is_refused(tmp_path: Path, header: str) -> None:
    patch = tmp_path / "name.patch"
    patch.write_text(textwrap.dedent(header) + "diff --git a/x b/x\n")
    with pytest.raises(PlantError, match="must begin with"):
        read_plant(patch)
