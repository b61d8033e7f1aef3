"""How often Python looks for garbage in cycles, while a process starts and afterwards."""

from __future__ import annotations

import gc

SELDOM = 50_000
"""New objects between two looks while much is imported; Python's default is 700 to 2,000."""
_usual: tuple[int, int, int] | None = None


def collect_seldom() -> None:
    """Look for garbage rarely from now on. Imports make half a million objects that all stay; to look through them again and
    again takes a tenth of the time until a command begins to work. ``collect_as_usual`` ends this."""
    global _usual
    if _usual is None and gc.isenabled():
        _usual = gc.get_threshold()
        gc.set_threshold(SELDOM, *_usual[1:])


def collect_as_usual(freeze: bool = True) -> None:
    """Look as often as before ``collect_seldom``; nothing happens without that.

    Args:
        freeze: not through what is there now, which is then never collected: call it before anything large is made.
    """
    global _usual
    if _usual is not None:
        if freeze:
            gc.freeze()
        gc.set_threshold(*_usual)
        _usual = None
