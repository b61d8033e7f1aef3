"""What the tests cost, in processor seconds: a busy machine does not change them, as it does the seconds on the clock.

``pytest --costs=20`` lists the twenty most expensive tests. The process of the tests counts, and those it has waited for;
services that outlive a test, such as Ray's, do not.
"""

from __future__ import annotations

import resource
from collections.abc import Generator
from typing import Any

import pytest

DEAR = 0.5
"""Seconds from which a test should be marked ``seconds``, so that ``make quick`` leaves it out."""
_KEY = "processor_seconds"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--costs", type=int, default=0, metavar="N", help="list the N most expensive tests, in processor seconds"
    )


def spent() -> float:
    """Processor seconds of this process and of those it has waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    item.stash[_BEFORE] = spent()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.when != "teardown":
        item.stash[_RUN] = spent()
    else:
        marked = any(item.get_closest_marker(name) for name in ("seconds", "slow"))
        # The end of the last test is that of the fixtures, too: what it costs is not the test's. These numbers travel from
        # the processes of pytest-xdist to the one that reports.
        before, run = item.stash[_BEFORE], item.stash[_RUN]
        report.user_properties.append((_KEY, (run - before, spent() - before, marked)))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    found: list[tuple[float, float, bool, str]] = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _KEY and report.when == "teardown":
                    found.append((*value, report.nodeid))
    if not config.getoption("costs") or not found:
        return
    found.sort(reverse=True)
    terminalreporter.section(f"{sum(each[1] for each in found):.0f} processor seconds")
    for seconds, _, _, test in found[: config.getoption("costs")]:
        terminalreporter.write_line(f"{seconds:7.1f}  {test}")
    for seconds, _, marked, test in found:
        if seconds > DEAR and not marked:
            terminalreporter.write_line(f"{seconds:7.1f}  {test} is not marked `seconds`")


_BEFORE, _RUN = pytest.StashKey[float](), pytest.StashKey[float]()
