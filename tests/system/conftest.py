"""Servers for a test, ended with it; where it fails, all that may tell why is shown."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.system import evidence
from tests.system.folder_tools import Pair
from tests.system.harness import Servers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """As it is when the test fails: before anything is ended."""
    report = yield
    servers = getattr(item, "funcargs", {}).get("servers")
    if call.when == "call" and report.failed and isinstance(servers, Servers):
        report.sections.append(("what there was when it failed", evidence.of(servers)))
    return report


@pytest.fixture
def servers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Servers]:
    made = Servers(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two running members for all tests of a module, each of which leaves nothing blocked behind."""
    made = Servers(tmp_path_factory.mktemp("pair"))
    try:
        yield made, made.group(2)
    finally:
        made.close()
        print(made.logs())
