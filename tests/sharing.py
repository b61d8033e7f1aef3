"""How tests are shared out between processes, where ``pytest -n`` starts some (pytest-xdist).

A file's tests stay together, so that what its fixtures make is made once. All tests that need Ray run in one process, and so do
those that need Prefect: one of each is started, in the process that uses it. Tests with a Ray of their own, as those that kill
it, say ``pytest.mark.xdist_group("ray")``: two clusters at once are too much for a small machine.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadGroupScheduling

SERVICES = {"local_ray": "ray", "local_prefect": "prefect"}


def services(items: list[pytest.Item]) -> dict[str, str]:
    """File -> the group that its tests run in, for files where a test needs a service or says its group."""
    needed: dict[str, set[str]] = {}
    for item in items:
        found = {group for name, group in SERVICES.items() if name in getattr(item, "fixturenames", ())}
        found |= {mark.args[0] for mark in item.iter_markers("xdist_group")}
        if found:
            needed.setdefault(_file(item.nodeid), set()).update(found)
    if any(len(groups) > 1 for groups in needed.values()):  # a file that needs both: all that need either go with it
        return dict.fromkeys(needed, "services")
    return {file: group for file, (group,) in needed.items()}


@pytest.hookimpl(tryfirst=True)  # xdist writes a test's group into its name, in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the groups, and put first what takes longest: two processes then end at about the same time."""
    groups = services(items)
    weight: Counter[str] = Counter()
    for item in items:
        file = _file(item.nodeid)
        if file in groups:
            for node in item.listchain():  # xdist joins the names of all groups
                node.own_markers = [mark for mark in node.own_markers if mark.name != "xdist_group"]
            item.add_marker(pytest.mark.xdist_group(groups[file]))
        if any(name in getattr(item, "fixturenames", ()) for name in SERVICES):
            item.add_marker(pytest.mark.seconds)
        weight[file] += 20 if item.get_closest_marker("seconds") or item.get_closest_marker("slow") else 1
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: (_file(item.nodeid) not in groups, -weight[_file(item.nodeid)]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    """A test without a group belongs to that of its file; groups are handed out as they were collected."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class ByFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            group: str = super()._split_scope(nodeid)
            return _file(nodeid) if group == nodeid else group

    config.option.loadscopereorder = False
    return ByFile(config, log)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
