"""Servers for a lab test, ended with it; where it fails, all that may tell why is shown."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.system import evidence
from tests.system.harness import Servers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """As it is when the test fails: before anything is unmounted or ended."""
    report = yield
    servers = getattr(item, "funcargs", {}).get("servers")
    if call.when == "call" and report.failed and isinstance(servers, Servers):
        report.sections.append(("what there was when it failed", evidence.of(servers)))
    return report


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """In a directory of their own, so that a test may make others beside it."""
    made = Servers(tmp_path / "members")
    try:
        yield made
    finally:
        made.close()
