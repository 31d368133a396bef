"""A pytest plugin for tests/plants/run.py: runs the red tests alone and writes down how each of them ended.

Loaded by `-p red_report` in a process of its own; talks by two files named in the environment: RED_TESTS (JSON, the ids
to run, or with a limit) and RED_RESULTS (JSON lines, one for each test that ran: id, phase, outcome, reason).
"""

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

BROKEN_FORM = (SyntaxError, NameError, ImportError)
"""What a patch gets that breaks the program's text instead of its behaviour; that proves nothing."""


def red_id(nodeid: str) -> str:
    """A test's id without its parameters."""
    return nodeid.partition("[")[0]


class RedReport:
    def __init__(self, tests: list[str], limit_s: float | None, stop_when_red: bool, results: Path) -> None:
        self.wanted = set(tests)
        self.left = set(tests)
        self.limit_s = limit_s
        self.stop_when_red = stop_when_red
        self.results = results.open("w")

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if self.wanted & {item.nodeid, red_id(item.nodeid)}]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
        if self.limit_s is not None:
            for item in items:
                item.add_marker(pytest.mark.timeout(self.limit_s), append=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        error = call.excinfo
        self._write(
            id=report.nodeid,
            phase=report.when,
            outcome=report.outcome,
            broken=error is not None and error.errisinstance(BROKEN_FORM),
            late=error is not None and "from pytest-timeout" in str(error.value),
            reason="" if error is None else error.exconly(tryshort=True).splitlines()[0],
        )
        if report.when == "call" and report.failed:
            self.left -= {report.nodeid, red_id(report.nodeid)}
            if self.stop_when_red and not self.left:
                item.session.shouldstop = "every red test is red"
        return report

    def _write(self, **fact: object) -> None:
        self.results.write(json.dumps(fact) + "\n")
        self.results.flush()  # what is written survives a process that is ended by its time limit


def pytest_configure(config: pytest.Config) -> None:
    # A red test has done its work with its first counterexample; to make it small takes hypothesis many times as long.
    settings.register_profile("red", settings.default, phases=[Phase.explicit, Phase.generate])
    settings.load_profile("red")
    order = json.loads(Path(os.environ["RED_TESTS"]).read_text())
    config.pluginmanager.register(RedReport(**order, results=Path(os.environ["RED_RESULTS"])))
