"""The rules of tests/conftest.py, tried on small test runs of their own."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py")

SKIPS = """
import pytest

def test_runs():
    pass

@pytest.mark.skip(reason="no such device")
def test_marked():
    pass

def test_called():
    pytest.skip("not here")

@pytest.mark.xfail(reason="some day")
def test_expected():
    assert False
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A test run with our conftest, and without the options and plugins of this one."""
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini("[pytest]\naddopts = -p no:asyncio\nmarkers =\n    requirement(id)\n    lab\n")
    return pytester


def test_outside_ci_a_skip_is_a_skip(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    inner.makepyfile(SKIPS)
    inner.runpytest().assert_outcomes(passed=1, skipped=2, xfailed=1)


def test_in_ci_a_skip_and_an_expected_failure_are_failures(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    inner.makepyfile(SKIPS)
    result = inner.runpytest()
    result.assert_outcomes(passed=1, failed=2, errors=1)  # a mark skips in the set-up, hence an error
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*which CI does not allow: *no such device*", "*not allow: expected to fail: some day*"]
    )


def test_in_ci_a_module_that_skips_itself_is_a_failure(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    inner.makepyfile("import pytest\npytest.importorskip('there_is_no_such_module')\n")
    monkeypatch.delenv("CI", raising=False)
    assert inner.runpytest().ret == pytest.ExitCode.NO_TESTS_COLLECTED
    monkeypatch.setenv("CI", "true")
    assert inner.runpytest().ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize("args", ["", "'P'", "'Q1'", "'P1', 'nonsense'", "18"])
def test_a_requirement_that_names_no_row_stops_the_run(inner: pytest.Pytester, args: str) -> None:
    inner.makepyfile(f"import pytest\n\n@pytest.mark.requirement({args})\ndef test_it():\n    pass\n")
    assert inner.runpytest().ret == pytest.ExitCode.USAGE_ERROR


def test_a_requirement_that_names_rows_is_taken(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\n\n@pytest.mark.requirement('P18', 'C4')\ndef test_it():\n    pass\n")
    inner.runpytest().assert_outcomes(passed=1)
