"""Servers for a test, ended with it; where it fails, all that may tell why is shown."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import evidence
from tests.system.folder_tools import Pair
from tests.system.harness import Servers

pytest_runtest_makereport = evidence.shown_where_it_fails


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
