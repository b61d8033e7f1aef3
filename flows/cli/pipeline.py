"""The chain and its steps: ``ganinv demo | run``, ``sample | label | fit | train | invert | edit | evaluate | report``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from flows.cli.apps import app
from flows.cli.jobs import end, engine_of, job_of, pairs, run_step, tell_failures
from flows.cli.options import (
    AllowFailed,
    AsJson,
    EncoderPlaces,
    EngineKind,
    FitMethod,
    GeneratorUri,
    LabellerName,
    Measure,
    NeededPlaces,
    RetryFailed,
    Slots,
    StoreUrl,
)
from flows.cli.output import show


@app.command()
def demo(
    store: StoreUrl = "runs/demo",
    dataset: Annotated[str | None, typer.Option(help="Your own images instead of the built-in portraits.")] = None,
    limit: Annotated[int, typer.Option(help="How many images to invert.")] = 12,
    engine: EngineKind = "ray",
    slots: Slots = None,
    allow_failed: AllowFailed = None,
) -> None:
    """Run the whole chain on real portraits and write a report. Run again, it resumes.

    Example: ganinv demo --dataset 'photos/*.jpg' --store runs/mine
    """
    from flows.server import own_server

    with own_server() as ready:
        from flows.demo import run_demo

        ready()
        result = run_demo(store, dataset, limit, engine_of(engine, slots))
    Console().print(f"\nThe report: [bold]{result['report']['report']}[/]")
    tell_failures(result, allow_failed)


@app.command()
def run(
    chain_name: Annotated[str, typer.Argument(help="A chain of configs/chains, or a YAML file.")],
    store: StoreUrl,
    dataset: Annotated[str, typer.Option(help="Folder, glob, tar shards or Parquet; any URL.")],
    where: Annotated[list[str] | None, typer.Option(help="Rows of a Parquet data set: --where split=test")] = None,
    limit: int | None = None,
    engine: EngineKind = "ray",
    slots: Slots = None,
    allow_failed: AllowFailed = None,
    as_json: AsJson = False,
) -> None:
    """Run a chain as a Prefect flow.

    Example: ganinv run demo --store s3://bucket/portraits --dataset portraits.parquet --where split=test
    """
    from flows.server import own_server

    with own_server() as ready:
        from flows.chain import chain, load_chain

        reference = {"url": dataset, "where": pairs(where), "limit": limit}
        job = load_chain(chain_name, store=store, dataset=reference, engine=engine_of(engine, slots).model_dump())
        ready()
        result = chain(job)
    end(result, as_json, allow_failed)


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
    allow_failed: AllowFailed = None,
    as_json: AsJson = False,
) -> None:
    """Sample latents and score them. Example: ganinv sample --store runs/a --count 10000"""
    from tasks.steps.sample import SampleJob, run_sample

    fields: dict[str, Any] = {"store": store, "count": count, "seed": seed, "name": name, "generator": generator}
    fields["labeller"] = labeller
    run_step(
        run_sample, job_of(SampleJob, fields | {"truncation_psi": truncation_psi}), engine, slots, as_json, allow_failed
    )


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
    allow_failed: AllowFailed = None,
    as_json: AsJson = False,
) -> None:
    """Score samples by another labeller. Example: ganinv label --store runs/a --labeller clip-faces --name clip"""
    from tasks.steps.label import LabelJob, run_label

    fields = {"store": store, "labeller": labeller, "name": name, "samples": samples, "source": source}
    run_step(run_label, job_of(LabelJob, fields | {"generator": generator}), engine, slots, as_json, allow_failed)


@app.command()
def fit(
    store: StoreUrl,
    samples: str = "samples",
    name: str = "directions",
    method: Annotated[FitMethod, typer.Option(help="How directions are found.")] = "interfacegan",
    attributes: Annotated[list[str] | None, typer.Option(help="All scored ones by default.")] = None,
    labels: Annotated[str | None, typer.Option(help="Scores of `ganinv label`, in place of the samples' own.")] = None,
    estimator: Annotated[
        Literal["svc", "linear-svc", "logistic", "ridge"] | None, typer.Option(help="Of boundaries: svc by default.")
    ] = None,
    tails: Annotated[float | None, typer.Option(help="Share of the samples in each: 0.1 by default.")] = None,
    components: Annotated[
        int | None, typer.Option(help="How many; of interfacegan: principal components beside, 10 by default.")
    ] = None,
    source: Annotated[Literal["samples", "latents"], typer.Option(help="Samples, or inverted images.")] = "samples",
    space: Annotated[
        Literal["z", "w", "w+"] | None, typer.Option(help="Of boundaries: w by default; w+ for inverted images.")
    ] = None,
    generator: Annotated[str | None, typer.Option(help="Where it is, if not where the samples' was.")] = None,
    engine: EngineKind = "ray",
    slots: Slots = None,
    allow_failed: AllowFailed = None,
    as_json: AsJson = False,
) -> None:
    """Fit directions on samples. Example: ganinv fit --store runs/a --estimator ridge"""
    from tasks.steps.fit import FitJob, run_fit

    fields = {
        "store": store,
        "samples": samples,
        "name": name,
        "methods": _methods(method, {"estimator": estimator, "tails": tails, "components": components, "space": space}),
        "labels": labels,
        "attributes": attributes or [],
        "source": source,
        "generator": generator,
    }
    run_step(run_fit, job_of(FitJob, fields), engine, slots, as_json, allow_failed)


def _methods(method: str, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The methods of a fit: the one that is named, and beside boundaries the principal components."""
    fields = {key: value for key, value in given.items() if value is not None}
    if method != "interfacegan":
        return [{"method": method, **fields}]
    components = fields.pop("components", 10)
    return [{"method": method, "tails": 0.1, **fields}, {"method": "ganspace", "components": components}]


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
    allow_failed: AllowFailed = None,
    as_json: AsJson = False,
) -> None:
    """Train an e4e encoder. Example: ganinv train --store runs/a --dataset portraits.parquet --where split=train"""
    from ganinv.config import config_path, load_yaml
    from tasks.steps.train import TrainJob, run_train

    training = load_yaml(config_path("training", recipe)) if recipe else {}
    fields: dict[str, Any] = {
        "store": store,
        "name": name,
        "generator": generator,
        "start": start,
        "training": {"steps": steps, **training},
        "dataset": {"url": dataset, "where": pairs(where)} if dataset else None,
    }
    run_step(run_train, job_of(TrainJob, fields), engine, 1, as_json, allow_failed)


@app.command()
def invert(
    store: StoreUrl,
    dataset: Annotated[str, typer.Option(help="Folder, glob, tar shards or Parquet; any URL.")],
    method: str = "pti",
    name: Annotated[str | None, typer.Option(help="The method's name by default.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Rows of a Parquet data set: --where split=test")] = None,
    image_column: str | None = None,
    limit: int | None = None,
    encoder: EncoderPlaces = None,
    needed: NeededPlaces = None,
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
    allow_failed: AllowFailed = None,
    as_json: AsJson = False,
) -> None:
    """Invert a data set. Run again, it computes only what is missing.

    Example: ganinv invert --store runs/a --dataset 'photos/*.png' --method pti
    """
    from ganinv.store import open_store
    from tasks.engine import open_pools
    from tasks.estimate import estimate
    from tasks.steps.invert import InvertJob, list_images, plan_invert, run_invert

    fields: dict[str, Any] = {
        "store": store,
        "dataset": {"url": dataset, "where": pairs(where), "image_column": image_column, "limit": limit},
        "method": method,
        "name": name,
        "encoders": pairs(encoder),
        "needed": pairs(needed),
        "start": start,
        "generator": generator,
        "seed": seed,
        "measure": measure,
    }
    job, where_it_runs = job_of(InvertJob, fields), engine_of(engine, slots, retry_failed)
    root, images = open_store(job.store), list_images(job)
    plan = plan_invert(job, images)
    cost = estimate(root, root.latents[job.collection_name], plan, where_it_runs)
    Console(stderr=True).print(cost.line(), highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        show(vars(cost), as_json)
        return
    with open_pools(where_it_runs) as pools:
        result = run_invert(job, pools, plan, images)
    end(result, as_json, allow_failed)


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
    allow_failed: AllowFailed = None,
    as_json: AsJson = False,
) -> None:
    """Apply directions to stored inversions.

    Example: ganinv edit --store runs/a --latents pti --edit 'smile(0-7)=2' --edit age=1sd,glasses=1
    """
    from ganinv.editing import Response, parse_edit
    from tasks.steps.edit import EditJob, run_edit

    specs = []
    for text in edits:
        weights = {n: str(s) if isinstance(s, Response) else s for n, s in parse_edit(text).items()}
        more = {"strengths": [1.0], "conditions": condition or [], "trust": trust or []}
        specs.append({"name": text, "directions": weights, **more})
    fields = {"store": store, "latents": latents_name, "edits": specs, "name": name, "images": images}
    fields["labeller"] = labeller
    run_step(run_edit, job_of(EditJob, fields | {"generator": generator}), engine, slots, as_json, allow_failed)


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
    allow_failed: AllowFailed = None,
    as_json: AsJson = False,
) -> None:
    """Measure inversions (MSE, PSNR, SSIM, distance) and edits. Example: ganinv evaluate --store runs/a --latents pti"""
    from tasks.steps.evaluate import EvaluateJob, run_evaluate

    fields = {"store": store, "latents": latents_name, "edits": edits, "distance": distance, "generator": generator}
    fields["similarity"] = similarity
    run_step(run_evaluate, job_of(EvaluateJob, fields), engine, slots, as_json, allow_failed)


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
    from tasks.steps.report import ReportJob, run_report

    chosen = latents_names or open_store(store).list("latents")
    fields = {"store": store, "latents": chosen, "samples": samples, "training": training, "edits": edits}
    show(run_report(job_of(ReportJob, fields | {"title": title, "name": name, "generator": generator})), as_json)
