"""How a command prints what it found."""

from __future__ import annotations

import json
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def show(result: Any, as_json: bool) -> None:
    if as_json or not isinstance(result, dict):
        print(json.dumps(result, indent=1, default=str))
        return
    for key, value in result.items():
        Console().print(f"[bold]{key}[/]: {value}", highlight=False, soft_wrap=True)


def print_table(table: Table, empty: str = "") -> None:
    """Folded where a terminal is narrow, never cut; into a file or a pipe as wide as it is. ``empty``: what to say in place of a
    table without rows."""
    if empty and not table.row_count:
        Console(stderr=True).print(empty, highlight=False, markup=False, soft_wrap=True)
        return
    console = Console()
    table.box, table.padding, table.show_edge = SIMPLE_HEAD, (0, 1, 0, 0), False
    for column in table.columns:
        column.overflow = "fold"
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.print(table)
