"""Servers for a test, ended with it; their logs are shown where it fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Servers


@pytest.fixture
def servers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Servers]:
    made = Servers(tmp_path)
    try:
        yield made
    finally:
        made.close()
        print(made.logs())  # pytest shows it for a failed test alone
