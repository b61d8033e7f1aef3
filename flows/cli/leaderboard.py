"""``ganinv leaderboard run | draw``: rank methods by judges that none of them was trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.apps import app
from flows.cli.flags import Flag, Said, step
from flows.cli.jobs import run_step
from flows.cli.options import AsJson, StoreUrl
from flows.cli.output import show

leaderboard = typer.Typer(help="Rank methods by independent judges.", no_args_is_help=True)
app.add_typer(leaderboard, name="leaderboard")


@step(
    leaderboard,
    "tasks.steps.leaderboard_job:LeaderboardJob",
    flags={
        "methods": Flag("--method", help="Name of a method in configs/methods, or a YAML file; may be repeated."),
        "datasets": Flag(
            "--dataset",
            help="NAME=URL, or NAME.url=URL and NAME.where.split=test; NAME=skimage://lfw_subset; may be repeated.",
        ),
        "people": Flag(
            help="NAME=PATTERN: for a data set, a regular expression that captures the person in an image's id."
        ),
    },
)
def run(
    job: Said,
    engine: Said,
    page: Annotated[Path | None, typer.Option(help="Folder to draw the page in afterwards.")] = None,
    as_json: AsJson = False,
) -> None:
    """Invert data sets with several methods and judge every image. Existing results are kept.

    Example: ganinv leaderboard run --store runs/board --method e4e --method pti --dataset mine=photos --page page
    """
    try:
        run_step("tasks.steps.leaderboard:run_leaderboard", job, engine, as_json)
    except typer.Exit:  # images that failed are told by the exit code, and the others have their page
        _page_of(job, page, as_json)
        raise
    _page_of(job, page, as_json)


@leaderboard.command()
def draw(
    store: StoreUrl,
    out: Annotated[Path, typer.Option(help="Folder for the page, its pictures and its numbers.")] = Path("."),
    generator: Annotated[str | None, typer.Option(help="Current location of the generator, if it has moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the page of a store's leaderboard. Example: ganinv leaderboard draw --store runs/board --out docs"""
    show(_draw(store, out, generator), as_json)


def _page_of(job: Said, page: Path | None, as_json: bool) -> None:
    if page is not None:
        made = job.make()
        files = _draw(made.store, page, made.generator)
        if not as_json:  # that is one document
            show(files, as_json)


def _draw(store: str, out: Path, generator: str | None) -> dict[str, str]:
    from ganinv.leaderboard.board import Board
    from ganinv.leaderboard.page import write
    from ganinv.store import open_store

    return write(Board(open_store(store)), out, generator)
