"""Rules that hold for every test.

- A skip is allowed where a machine cannot do what the test needs, with its reason; where `CI=true` it is a failure, and
  so is an expected failure: both would hide a gap.
- `requirement(...)` names rows that exist (letter and number); a typing error there would claim nothing, silently.
- `lab` tests need root.
"""

import os
import re
from collections.abc import Generator

import pytest

REQUIREMENT_ID = re.compile(r"[PLCDR][1-9][0-9]?")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("requirement"):
            if not mark.args or mark.kwargs or not all(_is_requirement_id(arg) for arg in mark.args):
                raise pytest.UsageError(f"{item.nodeid}: requirement{mark.args} does not name rows such as 'P18'")


def _is_requirement_id(value: object) -> bool:
    return isinstance(value, str) and REQUIREMENT_ID.fullmatch(value) is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_reason(report)}"
        if hasattr(report, "wasxfail"):
            del report.wasxfail
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself (importorskip, allow_module_level) has no tests whose reports could be turned."""
    report = yield
    if report.outcome == "skipped" and in_ci():
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: skipped, which CI does not allow: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    expected = getattr(report, "wasxfail", None)
    if expected is not None:
        return f"expected to fail: {expected}"
    # Of a skip, pytest keeps (file, line, reason).
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
