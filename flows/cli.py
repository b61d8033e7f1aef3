"""The command line: ``ganinv``. A command is a typed function; errors end in one sentence and exit code 1."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganinv.errors import ConfigError, GaninvError

app = typer.Typer(help="Dataset-scale GAN inversion.", no_args_is_help=True, pretty_exceptions_enable=False)
directions = typer.Typer(help="Stored directions.", no_args_is_help=True)
latents = typer.Typer(help="Stored inversions.", no_args_is_help=True)
app.add_typer(directions, name="directions")
app.add_typer(latents, name="latents")

TERMINATED = 128 + signal.SIGTERM
"""The exit code of who is ended by SIGTERM, by convention."""

StoreUrl = Annotated[str, typer.Option(help="Root of the store: a folder or any fsspec URL, such as s3://bucket/root.")]
EngineKind = Annotated[
    Literal["ray", "inline"], typer.Option("--engine", help="ray: worker processes or a cluster; inline: this process.")
]
Slots = Annotated[int | None, typer.Option(help="Worker processes; as many as fit by default.")]
Measure = Annotated[
    bool,
    typer.Option(
        help="Compare each result with its image. Of an encoder's work this is most; evaluate can do it later."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Also the images that failed in an earlier run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
LabellerName = Annotated[str, typer.Option(help="A shipped one, one of configs/labellers, or a YAML file.")]
FitMethod = Literal["interfacegan", "ganspace", "stylespace", "sefa", "classifier-gradient"]
GeneratorUri = Annotated[
    str, typer.Option(help="An embedded generator's name, a weight file, or what ganinv import printed.")
]


def main() -> None:
    """Entry point: turns every deliberate error into one message, and a supervisor's SIGTERM too."""
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except GaninvError as error:
        _complain(str(error))
        sys.exit(1)
    except SystemExit as left:
        if left.code in (signal.SIGTERM, TERMINATED):  # Ray's handler, while it starts, leaves with the bare number
            _complain("ended by a signal. What is done is kept: run the same command again to go on")
            sys.exit(TERMINATED)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _complain(text: str) -> None:
    Console(stderr=True).print(f"[bold red]ganinv:[/] {escape(text)}", soft_wrap=True, highlight=False)


@app.command()
def demo(
    store: StoreUrl = "runs/demo",
    dataset: Annotated[str | None, typer.Option(help="Your own images instead of the built-in portraits.")] = None,
    limit: Annotated[int, typer.Option(help="How many images to invert.")] = 12,
    engine: EngineKind = "ray",
    slots: Slots = None,
) -> None:
    """Run the whole chain on real portraits and write a report. Run again, it resumes.

    Example: ganinv demo --dataset 'photos/*.jpg' --store runs/mine
    """
    from flows.server import own_server

    with own_server() as ready:
        from flows.demo import run_demo

        ready()
        result = run_demo(store, dataset, limit, _engine(engine, slots))
    Console().print(f"\nThe report: [bold]{result['report']['report']}[/]")


@app.command()
def run(
    chain_name: Annotated[str, typer.Argument(help="A chain of configs/chains, or a YAML file.")],
    store: StoreUrl,
    dataset: Annotated[str, typer.Option(help="Folder, glob, tar shards or Parquet; any URL.")],
    where: Annotated[list[str] | None, typer.Option(help="Rows of a Parquet data set: --where split=test")] = None,
    limit: int | None = None,
    engine: EngineKind = "ray",
    slots: Slots = None,
    as_json: AsJson = False,
) -> None:
    """Run a chain as a Prefect flow.

    Example: ganinv run demo --store s3://bucket/portraits --dataset portraits.parquet --where split=test
    """
    from flows.server import own_server

    with own_server() as ready:
        from flows.chain import chain, load_chain

        reference = {"url": dataset, "where": _pairs(where), "limit": limit}
        job = load_chain(chain_name, store=store, dataset=reference, engine=_engine(engine, slots).model_dump())
        ready()
        result = chain(job)
    _show(result, as_json)


@app.command()
def sample(
    store: StoreUrl,
    count: int = 4000,
    seed: int = 0,
    truncation_psi: float = 0.8,
    name: str = "samples",
    labeller: LabellerName = "portraits-64",
    generator: GeneratorUri = "portraits-64",
    engine: EngineKind = "ray",
    slots: Slots = None,
    as_json: AsJson = False,
) -> None:
    """Sample latents and score them. Example: ganinv sample --store runs/a --count 10000"""
    from tasks.sample import SampleJob, run_sample

    fields: dict[str, Any] = {"store": store, "count": count, "seed": seed, "name": name, "generator": generator}
    fields["labeller"] = labeller
    _run(run_sample, _job(SampleJob, fields | {"truncation_psi": truncation_psi}), engine, slots, as_json)


@app.command()
def label(
    store: StoreUrl,
    labeller: LabellerName,
    name: Annotated[str, typer.Option(help="Of the new scores.")],
    samples: str = "samples",
    source: Annotated[Literal["samples", "latents"], typer.Option(help="Samples, or inverted images.")] = "samples",
    generator: GeneratorUri = "portraits-64",
    engine: EngineKind = "ray",
    slots: Slots = None,
    as_json: AsJson = False,
) -> None:
    """Score samples by another labeller. Example: ganinv label --store runs/a --labeller clip-faces --name clip"""
    from tasks.label import LabelJob, run_label

    fields = {"store": store, "labeller": labeller, "name": name, "samples": samples, "source": source}
    _run(run_label, _job(LabelJob, fields | {"generator": generator}), engine, slots, as_json)


@app.command()
def fit(
    store: StoreUrl,
    samples: str = "samples",
    name: str = "directions",
    method: Annotated[FitMethod, typer.Option(help="How directions are found.")] = "interfacegan",
    attributes: Annotated[list[str] | None, typer.Option(help="All scored ones by default.")] = None,
    labels: Annotated[str | None, typer.Option(help="Scores of `ganinv label`, in place of the samples' own.")] = None,
    estimator: Literal["svc", "linear-svc", "logistic", "ridge"] = "svc",
    tails: float = 0.1,
    components: int = 10,
    source: Annotated[Literal["samples", "latents"], typer.Option(help="Samples, or inverted images.")] = "samples",
    space: Annotated[Literal["z", "w", "w+"], typer.Option(help="Of boundaries; w+ for inverted images.")] = "w",
    generator: Annotated[str | None, typer.Option(help="Where it is, if not where the samples' was.")] = None,
    engine: EngineKind = "ray",
    slots: Slots = None,
    as_json: AsJson = False,
) -> None:
    """Fit directions on samples. Example: ganinv fit --store runs/a --estimator ridge"""
    from tasks.fit import FitJob, run_fit

    fields = {
        "store": store,
        "samples": samples,
        "name": name,
        "method": method,
        "labels": labels,
        "attributes": attributes or [],
        "interfacegan": {"estimator": estimator, "tails": tails},
        "components": components,
        "source": source,
        "space": space,
        "generator": generator,
    }
    _run(run_fit, _job(FitJob, fields), engine, slots, as_json)


@app.command()
def train(
    store: StoreUrl,
    dataset: Annotated[str | None, typer.Option(help="Real images to mix in.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="--where split=train")] = None,
    steps: int = 1500,
    start: Annotated[str | None, typer.Option(help="An encoder to go on from, such as e4e.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe of configs/training, or a YAML file.")] = None,
    name: str = "e4e",
    generator: GeneratorUri = "portraits-64",
    engine: EngineKind = "ray",
    as_json: AsJson = False,
) -> None:
    """Train an e4e encoder. Example: ganinv train --store runs/a --dataset portraits.parquet --where split=train"""
    from ganinv.config import config_path, load_yaml
    from tasks.train import TrainJob, run_train

    training = load_yaml(config_path("training", recipe)) if recipe else {}
    fields: dict[str, Any] = {
        "store": store,
        "name": name,
        "generator": generator,
        "start": start,
        "training": {"steps": steps, **training},
        "dataset": {"url": dataset, "where": _pairs(where)} if dataset else None,
    }
    _run(run_train, _job(TrainJob, fields), engine, 1, as_json)


@app.command()
def invert(
    store: StoreUrl,
    dataset: Annotated[str, typer.Option(help="Folder, glob, tar shards or Parquet; any URL.")],
    method: str = "pti",
    name: Annotated[str | None, typer.Option(help="The method's name by default.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Rows of a Parquet data set: --where split=test")] = None,
    image_column: str | None = None,
    limit: int | None = None,
    encoder: Annotated[str | None, typer.Option(help="Folder of an encoder you trained.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Latents to go on from, where a method starts: code.")
    ] = None,
    generator: GeneratorUri = "portraits-64",
    seed: int = 0,
    measure: Measure = True,
    engine: EngineKind = "ray",
    slots: Slots = None,
    retry_failed: RetryFailed = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Invert a data set. Run again, it computes only what is missing.

    Example: ganinv invert --store runs/a --dataset 'photos/*.png' --method pti
    """
    from ganinv.store import open_store
    from tasks.engine import open_pools
    from tasks.estimate import estimate
    from tasks.invert import InvertJob, list_images, plan_invert, run_invert

    fields: dict[str, Any] = {
        "store": store,
        "dataset": {"url": dataset, "where": _pairs(where), "image_column": image_column, "limit": limit},
        "method": method,
        "name": name,
        "encoder": encoder,
        "start": start,
        "generator": generator,
        "seed": seed,
        "measure": measure,
    }
    job, where_it_runs = _job(InvertJob, fields), _engine(engine, slots, retry_failed)
    root, images = open_store(job.store), list_images(job)
    plan = plan_invert(job, images)
    cost = estimate(root, root.latents[job.collection_name], plan, where_it_runs)
    Console(stderr=True).print(cost.line(), highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        _show(vars(cost), as_json)
        return
    with open_pools(where_it_runs) as pools:
        result = run_invert(job, pools, plan, images)
    _show(result, as_json)


@app.command()
def edit(
    store: StoreUrl,
    latents_name: Annotated[str, typer.Option("--latents", help="Which inversions.")],
    edits: Annotated[
        list[str],
        typer.Option(
            "--edit",
            help="smile=2; a sum: smile=2,age=-1; rows 0 to 3: smile(0-3)=2; version 3: smile@3=2; E(v1,0-3)=2; "
            "smile=1sd, or yaw=10score: as strong as changes the score by so much, image by image",
        ),
    ],
    condition: Annotated[list[str] | None, typer.Option(help="Directions to hold still.")] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(help="Imported directions whose generator was only stated, to apply all the same."),
    ] = None,
    name: str = "edits",
    images: Literal["none", "files", "shards"] = "files",
    labeller: LabellerName = "portraits-64",
    generator: GeneratorUri = "portraits-64",
    engine: EngineKind = "ray",
    slots: Slots = None,
    as_json: AsJson = False,
) -> None:
    """Apply directions to stored inversions.

    Example: ganinv edit --store runs/a --latents pti --edit 'smile(0-7)=2' --edit age=1sd,glasses=1
    """
    from ganinv.editing import Response, parse_edit
    from tasks.edit import EditJob, run_edit

    specs = []
    for text in edits:
        weights = {n: str(s) if isinstance(s, Response) else s for n, s in parse_edit(text).items()}
        more = {"strengths": [1.0], "conditions": condition or [], "trust": trust or []}
        specs.append({"name": text, "directions": weights, **more})
    fields = {"store": store, "latents": latents_name, "edits": specs, "name": name, "images": images}
    fields["labeller"] = labeller
    _run(run_edit, _job(EditJob, fields | {"generator": generator}), engine, slots, as_json)


@app.command()
def evaluate(
    store: StoreUrl,
    latents_name: Annotated[str, typer.Option("--latents", help="Which inversions.")],
    edits: Annotated[str | None, typer.Option(help="Also measure these edits.")] = None,
    distance: str = "embedded",
    similarity: Annotated[
        str | None, typer.Option(help="Of edits to source and inversion: embedded, or the file of ArcFace IR-SE-50.")
    ] = None,
    generator: GeneratorUri = "portraits-64",
    engine: EngineKind = "ray",
    slots: Slots = None,
    as_json: AsJson = False,
) -> None:
    """Measure inversions (MSE, PSNR, SSIM, distance) and edits. Example: ganinv evaluate --store runs/a --latents pti"""
    from tasks.evaluate import EvaluateJob, run_evaluate

    fields = {"store": store, "latents": latents_name, "edits": edits, "distance": distance, "generator": generator}
    fields["similarity"] = similarity
    _run(run_evaluate, _job(EvaluateJob, fields), engine, slots, as_json)


@app.command()
def report(
    store: StoreUrl,
    latents_names: Annotated[list[str] | None, typer.Option("--latents", help="One per method.")] = None,
    samples: str | None = None,
    training: str | None = None,
    edits: str | None = None,
    title: str = "GAN inversion",
    name: str = "report",
    generator: GeneratorUri = "portraits-64",
    as_json: AsJson = False,
) -> None:
    """Write one HTML of what is in the store. Example: ganinv report --store runs/a --latents pti --edits edits"""
    from ganinv.store import open_store
    from tasks.report import ReportJob, run_report

    chosen = latents_names or open_store(store).list("latents")
    fields = {"store": store, "latents": chosen, "samples": samples, "training": training, "edits": edits}
    _show(run_report(_job(ReportJob, fields | {"title": title, "name": name, "generator": generator})), as_json)


@latents.command("list")
def latents_list(store: StoreUrl, as_json: AsJson = False) -> None:
    """Every inverted collection with its counts. Example: ganinv latents list --store runs/a"""
    from ganinv.store import open_store

    root = open_store(store)
    rows = []
    for name in root.list("latents"):
        collection = root.latents[name]
        status, origin = collection.status(), collection.provenance()
        rows.append(
            {"name": name, "method": origin.get("method"), **vars(status), "generator": origin["generator_name"]}
        )
    if as_json:
        _show(rows, True)
        return
    table = Table("name", "method", "planned", "done", "failed", "left", "generator")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    _print_table(table)


@latents.command("show")
def latents_show(name: str, store: StoreUrl, as_json: AsJson = False) -> None:
    """Provenance, counts and errors of one collection. Example: ganinv latents show pti --store runs/a"""
    from ganinv.store import open_store

    collection = open_store(store).latents[name]
    errors = collection.errors().to_pylist()
    _show({"url": collection.url, **vars(collection.status()), **collection.provenance(), "errors": errors}, as_json)


@latents.command("render")
def latents_render(
    name: str,
    store: StoreUrl,
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")],
    image_id: Annotated[list[str] | None, typer.Option("--id", help="Only these images.")] = None,
    generator: GeneratorUri = "portraits-64",
) -> None:
    """Render stored inversions to PNG. Example: ganinv latents render pti --store runs/a --out renders"""
    from flows.render import render_latents

    written = render_latents(store, name, out, image_id, generator)
    Console().print(f"{written} images in {out}")


def _engine(kind: str, slots: int | None, retry_failed: bool = False) -> Any:
    from tasks.engine import Engine

    return _job(Engine, {"kind": kind, "slots": slots, "retry_failed": retry_failed})


def _job(model: Any, fields: dict[str, Any]) -> Any:
    from ganinv.config import validate

    return validate(model, {k: v for k, v in fields.items() if v is not None}, "command line")


def _run(step: Callable[..., dict[str, Any]], job: Any, engine: str, slots: int | None, as_json: bool) -> None:
    from tasks.engine import open_pools

    with open_pools(_engine(engine, slots)) as pools:
        result = step(job, pools)
    _show(result, as_json)


def _show(result: Any, as_json: bool) -> None:
    if as_json or not isinstance(result, dict):
        print(json.dumps(result, indent=1, default=str))
        return
    for key, value in result.items():
        Console().print(f"[bold]{key}[/]: {value}", highlight=False, soft_wrap=True)


def _print_table(table: Table) -> None:
    """Folded where a terminal is narrow, never cut; into a file or a pipe as wide as it is."""
    console = Console()
    table.box, table.padding, table.show_edge = SIMPLE_HEAD, (0, 1, 0, 0), False
    for column in table.columns:
        column.overflow = "fold"
    if not console.is_terminal:
        console.width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    console.print(table)


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"expected key=value, got {text!r}")
        pairs[key.strip()] = value.strip()
    return pairs


from flows import cli_directions, cli_runs, cli_stored, cli_weights  # noqa: E402, F401  # they register their commands, and take the options above
