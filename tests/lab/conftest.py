"""Servers for a lab test, ended with it; where it fails, all that may tell why is shown."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system import evidence
from tests.system.harness import Servers

pytest_runtest_makereport = evidence.shown_where_it_fails


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """In a directory of their own, so that a test may make others beside it."""
    made = Servers(tmp_path / "members")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def mounts() -> Iterator[ExitStack]:
    """What is mounted is unmounted, and what is attached is detached, in the end."""
    with ExitStack() as stack:
        yield stack
