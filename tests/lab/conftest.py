"""Servers for a lab test, ended with it; their logs are shown where it fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Servers


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """In a directory of their own, so that a test may make others beside it."""
    made = Servers(tmp_path / "members")
    try:
        yield made
    finally:
        made.close()
        print(made.logs())  # pytest shows it for a failed test alone
