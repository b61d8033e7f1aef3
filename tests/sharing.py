"""How tests are shared out between processes, where ``pytest -n`` starts some (pytest-xdist).

A file's tests stay together, so that what its fixtures make is made once. All tests that need Ray run in one process, and so do
those that need Prefect: one of each is started, in the process that uses it. Tests with a Ray of their own, as those that kill
it, say ``pytest.mark.xdist_group("ray")``: two clusters at once are too much for a small machine.

Who needs what is read from the files' text: xdist 3.8 appends groups to names of tests in a way that pytest 9.2 no longer sees.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadGroupScheduling

SERVICES = {"local_ray": "ray", "local_prefect": "prefect"}
WEIGHTS = {"slow": 400, "seconds": 20}
"""What a test takes, about, if one without a mark takes 1."""


@cache
def services(root: Path) -> dict[str, str]:
    """File, relative to ``root`` -> the group that its tests run in, for files that name a service or a group."""
    needed: dict[str, set[str]] = {}
    for path in sorted(root.rglob("test_*.py")):
        text = path.read_text()
        found = {group for name, group in SERVICES.items() if name in text}
        found |= set(re.findall(r"xdist_group\(\W(\w+)\W\)", text))
        if found:
            needed[path.relative_to(root).as_posix()] = found
    if any(len(groups) > 1 for groups in needed.values()):  # a file that needs both: all that need either go with it
        return dict.fromkeys(needed, "services")
    return {file: group for file, (group,) in needed.items()}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put first what takes longest: the processes then end at about the same time."""
    groups = services(config.rootpath / "tests")
    weight: Counter[str] = Counter()
    for item in items:
        if any(name in getattr(item, "fixturenames", ()) for name in SERVICES):
            item.add_marker(pytest.mark.seconds)
        weight[_file(item.nodeid)] += next((w for name, w in WEIGHTS.items() if item.get_closest_marker(name)), 1)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: (_file(item.nodeid) not in groups, -weight[_file(item.nodeid)]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    """A test without a group belongs to that of its file; groups are handed out as they were collected."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    groups = services(config.rootpath / "tests")

    class ByFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return groups.get(_file(nodeid), _file(nodeid))

    config.option.loadscopereorder = False
    return ByFile(config, log)


def _file(nodeid: str) -> str:
    """Relative to the folder of the tests."""
    return nodeid.partition("::")[0].removeprefix("tests/")
