"""Python looks for garbage rarely while a command starts, and as usual when it works."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tasks.garbage import SELDOM, collect_as_usual, collect_seldom
from tasks.pool.contract import WorkerSpec
from tasks.pool.slot import Slot


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    collect_as_usual(freeze=False)
    assert gc.get_threshold() == before


def test_twice_is_once_and_without_a_beginning_there_is_no_end() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    collect_as_usual()
    assert gc.get_freeze_count() == frozen
    collect_seldom()
    collect_seldom()
    assert gc.get_threshold() == (SELDOM, *before[1:])
    collect_as_usual(freeze=False)
    assert gc.get_threshold() == before


def test_a_worker_is_built_with_the_usual_garbage_collection() -> None:
    """What was imported before is left out of it, and nothing of the worker."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    slot = Slot()
    slot.prepare(["json"])
    assert gc.get_threshold()[0] == SELDOM
    seen = list[tuple[int, ...]]()
    built = slot.build(WorkerSpec(lambda: seen.append(gc.get_threshold())))  # type: ignore[arg-type,func-returns-value]
    assert built.kind == "built", built
    assert seen == [before]
    assert gc.get_freeze_count() > frozen
