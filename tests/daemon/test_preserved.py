"""The list of several folders at once (daemon.preserved)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from replicad.daemon import preserved
from replicad.daemon.preserved import Around
from replicad.engine.preserved_asking import LISTED_ROWS_MAX, Failure
from replicad.ops.requests import PreservedList


def around(folders: int) -> Around:
    names = [f"folder{number}" for number in range(folders)]
    return Around("a", lambda: None, lambda: names, dict, lambda member: member.upper())  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("folders", [1, 3, 400])
def test_the_rows_of_one_list_are_shared_out_among_the_folders(monkeypatch: pytest.MonkeyPatch, folders: int) -> None:
    asked: list[int] = []

    async def list_folder(name: str, rows_max: int, around: Around) -> tuple[list[Any], list[Any], list[Any]]:
        asked.append(rows_max)
        return [], [], []

    monkeypatch.setattr(preserved, "_list_folder", list_folder)
    asyncio.run(preserved.preserved(PreservedList(None), around(folders)))
    assert len(asked) == folders
    assert set(asked) == {max(1, LISTED_ROWS_MAX // folders)}


def test_a_folder_that_does_not_run_is_named() -> None:
    found = asyncio.run(preserved.preserved(PreservedList(None), around(1)))
    assert found["not_answering"] == [{"folder": "folder0", "member": "A", "reason": "the folder does not run here"}]


def test_those_in_between_are_named_where_one_does_not_answer() -> None:
    assert preserved._reason(Failure("no answer", ("b", "c")), around(1)) == "no answer; it was asked through B, C"
    assert preserved._reason(Failure("no answer"), around(1)) == "no answer"
