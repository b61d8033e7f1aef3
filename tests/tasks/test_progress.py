"""What the progress line says, and how often."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tasks.pool import progress
from tasks.pool.progress import ProgressLine, format_duration


def log(quiet: bool = False) -> tuple[ProgressLine, io.StringIO]:
    text = io.StringIO()
    return ProgressLine("invert", 100, console=Console(file=text, width=200), quiet=quiet), text


def test_a_log_gets_a_line_in_the_end() -> None:
    shown, text = log()
    with shown:
        shown.add(8, 2)
        shown.tick()
        assert text.getvalue() == ""
        assert shown.line().startswith("invert: 10/100 images, 2 failed, ")
        assert shown.line().endswith(" left")
        shown.add(90)
    assert text.getvalue().count("\n") == 1
    assert text.getvalue().startswith("invert: 100/100 images, 2 failed, ")


def test_the_last_line_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown, text = log()
    with shown:
        now[0] = 20.0
        shown.add(100)  # it is time for a line, and it is the last
    assert text.getvalue() == "invert: 100/100 images, 5.00/s, after 20s\n"


def test_lines_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown, text = log()
    with shown:
        while clock[0] < 200:
            clock[0] += 5
            shown.tick()
    said = [line.rpartition("after ")[2] for line in text.getvalue().splitlines()]
    assert said == ["10s", "30s", "1m10s", "2m10s", "3m10s", "3m20s"]  # the last one in the end


def test_quiet_says_nothing() -> None:
    shown, text = log(quiet=True)
    with shown:
        shown.add(100)
    assert text.getvalue() == ""


def test_a_terminal_gets_a_bar() -> None:
    text = io.StringIO()
    with ProgressLine("invert", 4, console=Console(file=text, width=120, force_terminal=True)) as shown:
        shown.add(3, 1)
    assert "4/4" in text.getvalue()
    assert "1 failed" in text.getvalue()


def test_times_are_spelled_for_people() -> None:
    assert [format_duration(s) for s in (4.4, 185, 7620)] == ["4s", "3m05s", "2h07m"]
