"""Everything that hangs on the embedded generator, made again: directions, encoders, tables, pictures.

    python -m benchmarks.assets plan                                  # what is not of this generator, and how long it takes
    python -m benchmarks.assets make --data portraits.parquet         # all of it, one after the other; goes on where it stopped
    python -m benchmarks.assets make --data portraits.parquet --only encoders
    python -m benchmarks.assets make --only shipped-directions        # of the generator's own samples: no data

``--data`` is a Parquet data set with a column ``split`` of ``train`` and ``test``; ``--other`` a second one, of other people,
for the tables. Everything lies in ``runs/assets/<the generator's fingerprint>``, so that nothing of another generator is taken
over. An encoder that is better than the shipped one, or of another generator, replaces it; the pages are replaced part by part.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.directions import shipping
from benchmarks.inversion.encoders import SHIPPED, is_current, ship
from ganinv.generators.files import open_generator

ROOT = Path(__file__).parents[1]
GENERATOR = "portraits-64"
NUMBERS = "benchmarks/results/directions"


@dataclass(frozen=True)
class Step:
    """One thing to make.

    Args:
        minutes: on two quiet cores, as measured.
        done: whether it is there already, for this generator.
        make: makes it, or goes on making it.
    """

    name: str
    minutes: float
    done: Callable[[], bool]
    make: Callable[[], None]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["plan", "make"])
    parser.add_argument("--data", default="", help="Parquet data set with a column split")
    parser.add_argument("--other", default="", help="a data set of other people, for the tables")
    parser.add_argument("--only", nargs="+", default=[], help="steps by name; encoders are all of them")
    args = parser.parse_args()
    steps = planned(args.data, args.other)
    names = {step.name for step in steps} | {"encoders", "pages"}
    if unknown := sorted(set(args.only) - names):
        parser.error(f"no step {unknown[0]!r}: expected one of {', '.join(sorted(names))}")
    if args.only:
        groups = {"encoders": set(SHIPPED), "pages": {step.name for step in steps} - {*SHIPPED, shipping.STEP}}
        chosen = set().union(*(groups.get(name, {name}) for name in args.only))
        steps = [step for step in steps if step.name in chosen]
    left = [step for step in steps if not step.done()]
    show(steps, left)
    if args.action == "plan":
        return
    if not args.data and {step.name for step in left} - {shipping.STEP}:
        parser.error("give --data, the portraits that encoders learn from and tables are made on")
    for step in left:
        Console(stderr=True).print(f"[bold]{step.name}[/bold], about {step.minutes:.0f} minutes")
        step.make()


def show(steps: Sequence[Step], left: Sequence[Step]) -> None:
    """What is there, what is to be made, and in how many minutes."""
    table = Table("step", "minutes", "")
    for step in steps:
        table.add_row(step.name, f"{step.minutes:.0f}", "to do" if step in left else "there")
    table.add_row("left", f"{sum(step.minutes for step in left):.0f}", "on two quiet cores")
    Console().print(table)


def planned(data: str, other: str) -> list[Step]:
    """All steps in order: encoders that others need first, then what is measured with them."""
    generator = open_generator(GENERATOR)
    folder = Path("runs/assets") / generator.fingerprint[:12]
    store = str(folder / "store")
    shipped = Step(
        shipping.STEP, 4, lambda: shipping.is_current(generator), lambda: shipping.ship(f"{folder}/shipped", generator)
    )
    steps = [shipped] + [
        Step(name, encoder.minutes, lambda n=name: is_current(n, generator), lambda n=name: ship(n, store, data))  # type: ignore[misc]
        for name, encoder in SHIPPED.items()
    ]

    def page(name: str, minutes: float, *commands: str) -> None:
        marker = folder / "done" / name.replace(" ", "-")

        def make() -> None:
            for command in commands:
                subprocess.run([sys.executable, "-m", *shlex.split(command)], cwd=ROOT, check=True)
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()

        steps.append(Step(name, minutes, marker.exists, make))

    data, other = shlex.quote(data), shlex.quote(other) if other else ""
    portraits = f"--store {folder}/portraits"
    benchmark = "benchmarks.inversion.portraits"
    page(
        "generator judged",
        6,
        f"benchmarks.generator.quality --data {data} --where split=train --samples 400 --cache {folder}/features "
        f"--grid {folder}/samples.png --to docs/judged.md",
    )
    page(
        "directions",
        25,
        f"benchmarks.directions.run measure --store {folder}/directions --numbers {NUMBERS}",
        f"benchmarks.directions.run write --numbers {NUMBERS}",
    )
    page(
        "inversions",
        35,
        f"{benchmark} run {portraits} --dataset {data} --where split=test",
    )
    more = f"--other {other} --people '([^_./]+)_'" if other else ""
    page(
        "leaderboard",
        40,
        f"benchmarks.leaderboard --store {folder}/board --data {data} {more} --to docs/leaderboard",
    )
    page(
        "edits judged",
        8,
        f"benchmarks.directions.judged --store {folder}/judged --strip {folder}/judged.png --to docs/judged.md",
        f"benchmarks.directions.judged {portraits} --latents pti --limit 48 --to docs/judged.md",
    )
    page(
        "pareto",
        60,
        f"benchmarks.inversion.pareto run --results {folder}/pareto.jsonl",
        f"benchmarks.inversion.pareto draw --results {folder}/pareto.jsonl --to docs/leaderboard",
    )
    return steps


if __name__ == "__main__":
    main()
