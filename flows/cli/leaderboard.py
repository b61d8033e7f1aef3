"""``ganinv leaderboard run | draw``: methods against each other, before judges that none was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.apps import app
from flows.cli.flags import Flag, Said, step
from flows.cli.jobs import run_step
from flows.cli.options import AsJson, StoreUrl
from flows.cli.output import show

leaderboard = typer.Typer(help="Methods against each other, judged.", no_args_is_help=True)
app.add_typer(leaderboard, name="leaderboard")


@step(
    leaderboard,
    "tasks.steps.leaderboard:LeaderboardJob",
    flags={
        "methods": Flag("--method", help="Of configs/methods, or a YAML file; may be repeated."),
        "datasets": Flag("--dataset", help="NAME=URL, or NAME.url=URL and NAME.where.split=test; may be repeated."),
    },
)
def run(job: Said, engine: Said, as_json: AsJson = False) -> None:
    """Invert data sets with methods and judge every image. What is there already is kept.

    Example: ganinv leaderboard run --store runs/board --method e4e --method pti --dataset mine=photos
    """
    run_step("tasks.steps.leaderboard:run_leaderboard", job, engine, as_json)


@leaderboard.command()
def draw(
    store: StoreUrl,
    out: Annotated[Path, typer.Option(help="Folder for leaderboard.md, leaderboard.html and pictures.")] = Path("."),
    generator: Annotated[str | None, typer.Option(help="Where it is, if not where it was.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the page of a store's leaderboard. Example: ganinv leaderboard draw --store runs/board --out docs"""
    from ganinv.leaderboard.board import Board
    from ganinv.leaderboard.page import write
    from ganinv.store import open_store

    show(write(Board(open_store(store)), out, generator), as_json)
