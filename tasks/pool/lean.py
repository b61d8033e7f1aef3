"""Imports that the processes of a run avoid, to start sooner."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


def without_pandas() -> None:
    """Let Arrow make arrays without pandas in this process; nothing happens where pandas is imported already.

    With the first array that a process makes, Arrow imports pandas where it is installed, to know a Series if it is ever given
    one: a quarter of a second of a process that has none. It looks once, so here it looks while nothing is to be found. Whoever
    asks it for a DataFrame later gets one, and from then on it knows a Series too.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow

    nothing = _NoPandas()
    sys.meta_path.insert(0, nothing)
    try:
        pyarrow.array([])
    finally:
        sys.meta_path.remove(nothing)


class _NoPandas(MetaPathFinder):
    """Says that pandas is not there."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out of the look at it", name=fullname)
