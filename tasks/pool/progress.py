"""``ProgressLine``: a bar on a terminal, or occasional lines in a log: images done and failed, rate, time left."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

FIRST_LINE, LONGEST_SILENCE = 10.0, 60.0  # seconds between two lines of a log: grows from the first to the second


class ProgressLine:
    """Use as a context manager; :meth:`add` what is done, and :meth:`tick` while nothing is.

    Args:
        label: what is counted, such as ``invert``.
        total: images.
        where: told at the start, such as what computes.
        what: is counted.
        console: where to; standard error by default, so that standard output stays the command's own.
        quiet: show nothing.
    """

    def __init__(
        self,
        label: str,
        total: int,
        where: str = "",
        *,
        what: str = "images",
        console: Console | None = None,
        quiet: bool = False,
    ) -> None:
        self.label, self.total, self.done, self.failed = label, total, 0, 0
        self._where, self._what = where, what
        self._console = console or Console(file=sys.stderr)
        self._quiet = quiet
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._started = self._last_line = time.monotonic()
        self._silence = FIRST_LINE
        self._told = -1  # what was done when the last line was printed

    def __enter__(self) -> ProgressLine:
        self._started = self._last_line = time.monotonic()
        if self._where and not self._quiet:
            self._print(f"{self.label}: {self.total} {self._what} on {self._where}")
        if not self._quiet and self._console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[failed]}"),
                console=self._console,
            )
            self._task = self._bar.add_task(self.label, total=self.total, rate="", failed="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._quiet and not self._told == self.done == self.total:
            self._print(self.line())

    def add(self, ok: int, failed: int = 0) -> None:
        """Count images of a committed unit."""
        self.done += ok + failed
        self.failed += failed
        if self._bar is not None:
            failed_text = f"[red]{self.failed} failed" if self.failed else ""
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:.2f}/s", failed=failed_text)
        self.tick()

    def tick(self) -> None:
        """Print a line when it is time for one; a bar moves by itself."""
        now = time.monotonic()
        if self._bar is None and not self._quiet and now - self._last_line >= self._silence:
            self._last_line, self._silence = now, min(2 * self._silence, LONGEST_SILENCE)
            self._told = self.done
            self._print(self.line())

    @property
    def rate(self) -> float:
        """Images per second since the start."""
        return self.done / max(time.monotonic() - self._started, 1e-9)

    def line(self) -> str:
        """``invert: 120/1000 images, 2 failed, 4.10/s, 3m35s left``."""
        parts = [f"{self.label}: {self.done}/{self.total} {self._what}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.done:
            parts.append(f"{self.rate:.2f}/s")
        left = self.total - self.done
        parts.append(
            f"{format_duration(left / self.rate)} left"
            if left and self.done
            else f"after {format_duration(self._elapsed)}"
        )
        return ", ".join(parts)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def format_duration(seconds: float) -> str:
    """``45s``, ``3m05s``, ``2h07m``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
