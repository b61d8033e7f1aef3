"""Commands on runs: ``ganinv submit``, ``runs``, ``logs``, ``cancel``; and ``status``, which needs only the storage."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from flows.cli.apps import app
from flows.cli.flags import Flag, Said, step
from flows.cli.jobs import end
from flows.cli.options import AsJson
from flows.cli.output import print_table, show
from flows.cli.pipeline import OF_INVERT, WORKERS
from ganinv.errors import ConfigError

RunName = Annotated[
    str, typer.Argument(help="Name or id of a run, as listed by ganinv runs; the first characters of an id suffice.")
]


@step(
    app,
    "tasks.steps.invert:InvertJob",
    flat=("dataset",),
    flags={**OF_INVERT, "dataset.url": Flag(argument=True)},
    ahead=WORKERS,
)
def submit(
    job: Said,
    engine: Said,
    to: Annotated[
        str | None, typer.Option(help="A deployment, such as invert. Without it, the flow runs in this process.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Invert a data set as a Prefect flow: with --to in a deployment on a server, else in this process.

    Example: ganinv submit s3://bucket/photos --store s3://bucket/store --method pti --to invert
    """
    if to is None:
        from flows.server import own_server

        with own_server() as ready:
            from prefect.exceptions import CancelledRun

            from flows.steps import invert

            made, where_it_runs = job.make(), engine.make()
            ready()
            try:
                result = invert(made, where_it_runs)
            except CancelledRun as cancelled:
                raise ConfigError(f"the run was cancelled: {cancelled}") from None
        end(result, as_json, engine.allow_failed)
        return
    made, where_it_runs = job.make(), engine.make()
    from flows.runs import submit as hand_over
    from ganinv.store.names import no_secrets

    said = job.given["dataset"]["url"]  # before it was made absolute on this machine
    places = {"--store": made.store, "the data set": said}
    places |= {f"--encoder {name}": uri for name, uri in made.encoders.items() if "/" in uri}
    places |= {f"--needed {role}": uri for role, uri in made.needed.items() if "/" in uri}
    for what, place in places.items():
        if "://" not in place and not place.startswith("/"):
            raise ConfigError(
                f"{what} {place!r} is a path on this machine, and the run is elsewhere: give a URL, or an absolute path "
                "that the worker has too"
            )
    no_secrets([*places.values(), made.generator], "the job")
    parameters = {"job": made.model_dump(mode="json"), "engine": where_it_runs.model_dump(mode="json")}
    run = hand_over(to, parameters, flow="invert")
    if as_json:
        show(vars(run), True)
    else:
        Console().print(f"{run.name} is {run.state.lower()}: ganinv logs {run.name} --follow", highlight=False)


@app.command()
def runs(
    limit: int = 20,
    state: Annotated[str | None, typer.Option(help="running, completed, failed, scheduled, ...")] = None,
    deployment: Annotated[str | None, typer.Option(help="Only runs of this deployment.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first. Example: ganinv runs --state running"""
    from flows.runs import list_runs

    found = list_runs(limit, state, deployment)
    if as_json:
        show([vars(run) for run in found], True)
        return
    table = Table(
        Column("run", no_wrap=True), Column("id", no_wrap=True), "flow", "deployment", "state", "started", "took"
    )
    for run in found:
        started = f"{run.started.astimezone():%Y-%m-%d %H:%M:%S}" if run.started else "-"
        table.add_row(run.name, run.id[:8], run.flow, run.deployment or "-", run.state, started, f"{run.seconds:.0f}s")
    print_table(table, "no such run is known to this Prefect server")


@app.command()
def logs(
    run: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the run has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a run logged. Example: ganinv logs brave-otter --follow"""
    from flows.runs import read_log, read_run

    shown = 0
    while True:
        over = not follow or read_run(run).state in FINAL  # asked first, so that the last lines are not missed
        lines = read_log(run, skip=shown)
        shown += len(lines)
        for line in lines:
            if as_json:
                show(vars(line), True)
            else:
                text = f"{line.time.astimezone():%H:%M:%S} {line.level:8} {escape(line.message)}"
                Console().print(text, highlight=False, soft_wrap=True)
        if over:
            return
        time.sleep(2)


@app.command()
def cancel(
    run: RunName,
    wait: Annotated[float, typer.Option(help="Seconds to wait until it has stopped.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Stop a run. Finished work is kept; submitted again, the run resumes. Example: ganinv cancel brave-otter"""
    from flows.runs import cancel as stop

    stopped = stop(run, wait)
    if as_json:
        show(vars(stopped), True)
    else:
        Console().print(f"{stopped.name} is {stopped.state.lower()}", highlight=False)
        if stopped.state not in FINAL:
            Console().print(
                "It has not answered yet. If its process was killed, it never will; nothing is running then."
            )


FINAL = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")


@app.command()
def status(
    url: Annotated[str, typer.Argument(help="A store, or a collection in it: s3://bucket/store/latents/pti.")],
    as_json: AsJson = False,
) -> None:
    """Show the progress of runs: done, failed, left, rate, time left. Needs only the storage, so it works for runs elsewhere too.

    Example: ganinv status s3://bucket/store/latents/pti
    """
    from ganinv.store.progress import progress_at
    from tasks.pool.progress import format_duration

    found = progress_at(url)
    if as_json:
        show([vars(each) for each in found], True)
        return
    table = Table(
        Column("collection", no_wrap=True),
        Column("state", no_wrap=True),
        *("planned", "done", "failed", "left", "images/s", "time left"),
        Column("last part", no_wrap=True),
    )
    for each in found:
        counts = (str(n) for n in (each.planned, each.done, each.failed, each.left))
        rate = f"{each.rate:.3g}" if each.rate else "-"
        left = format_duration(each.seconds_left) if each.seconds_left is not None else "-"
        last = f"{datetime.fromtimestamp(each.last_part):%d %b %H:%M}" if each.last_part else "-"
        table.add_row(each.collection, each.state, *counts, rate, left, last)
    print_table(table)
