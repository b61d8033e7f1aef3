"""The chain and its steps: ``ganinv demo | run``, ``sample | label | fit | train | invert | edit | evaluate | report``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from flows.cli.apps import app
from flows.cli.flags import Flag, Said, as_yaml, load, pairs, step
from flows.cli.jobs import end, run_step, tell_failures
from flows.cli.options import AsJson, FitMethod, StoreUrl
from flows.cli.output import show
from ganinv.errors import ConfigError

DATASET = "tasks.jobs.dataset:DatasetRef"
WORKERS = ("tasks.steps.invert",)
"""Modules whose import brings in nearly everything that workers need."""
OF_INVERT = {
    "dataset.limit": Flag(help="Use only this many images, the first by id."),
    "name": Flag(help="Name of the result; by default the method's."),
    "encoders": Flag(
        "--encoder", help="NAME=URI: location of an encoder that the method names, if it is not in the store."
    ),
    "needed": Flag(help="ROLE=URI: another encoder that one depends on, such as w_encoder=w.pt."),
    "start": Flag("--from", help="Latents to start from, for methods with start: code."),
    "overrides": Flag(
        "--override", help="Override a setting of the method, such as batch_size=4 or stages.0.steps=100."
    ),
}
"""Flags of ``invert``, and of ``submit``, which runs the same job elsewhere."""


@step(
    app,
    DATASET,
    flags={
        "url": Flag("--dataset", help="Your own images instead of the built-in portraits.", required=False),
        "limit": Flag(help="How many images to invert.", default=12),
    },
    ahead=WORKERS,
)
def demo(dataset: Said, engine: Said, store: StoreUrl = "runs/demo") -> None:
    """Run the whole pipeline on real portraits and write a report. Resumes if run again.

    Example: ganinv demo --dataset 'photos/*.jpg' --store runs/mine
    """
    from flows.server import own_server

    with own_server() as ready:
        from flows.demo import run_demo

        ready()
        result = run_demo(store, dataset.given, engine.make())
    Console().print(f"\nThe report: [bold]{result['report']['report']}[/]")
    tell_failures(result, engine.allow_failed)


@step(app, DATASET, flags={"url": Flag("--dataset")}, ahead=WORKERS)
def run(
    dataset: Said,
    engine: Said,
    chain_name: Annotated[str, typer.Argument(help="A chain of configs/chains, or a YAML file.")],
    store: StoreUrl,
    generator: Annotated[str | None, typer.Option(help="Use this generator instead of the chain's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a chain as a Prefect flow.

    Example: ganinv run demo --store s3://bucket/portraits --dataset portraits.parquet --where split=test
    """
    from flows.server import own_server

    with own_server() as ready:
        from flows.chain import chain, load_chain

        shared: dict[str, Any] = {"store": store, "dataset": dataset.given, "engine": engine.make().model_dump()}
        job = load_chain(chain_name, **shared, **({"generator": generator} if generator else {}))
        ready()
        result = chain(job)
    end(result, as_json, engine.allow_failed)


@step(
    app,
    "tasks.steps.sample:SampleJob",
    flags={"count": Flag(help="Number of samples."), "classes": Flag("--class")},
    ahead=("tasks.steps.sample",),
)
def sample(job: Said, engine: Said, as_json: AsJson = False) -> None:
    """Sample latents and score them. Example: ganinv sample --store runs/a --count 10000"""
    run_step("tasks.steps.sample:run_sample", job, engine, as_json)


@step(
    app,
    "tasks.steps.label:LabelJob",
    flags={"name": Flag(help="Name of the new scores.")},
    ahead=("tasks.steps.label",),
)
def label(job: Said, engine: Said, as_json: AsJson = False) -> None:
    """Score samples with another labeller. Example: ganinv label --store runs/a --labeller clip-faces --name clip"""
    run_step("tasks.steps.label:run_label", job, engine, as_json)


@step(
    app,
    "tasks.steps.fit:FitJob",
    made={"methods": ("--method", "--estimator", "--tails", "--components", "--space", "--setting")},
)
def fit(
    job: Said,
    engine: Said,
    method: Annotated[FitMethod, typer.Option(help="Method that finds the directions.")] = "interfacegan",
    estimator: Annotated[
        Literal["svc", "linear-svc", "logistic", "ridge"] | None,
        typer.Option(help="Classifier or regression for boundaries; svc by default."),
    ] = None,
    tails: Annotated[
        float | None, typer.Option(help="Share of the samples used at each end of the scores; 0.1 by default.")
    ] = None,
    components: Annotated[
        int | None,
        typer.Option(
            help="Number of components. With interfacegan: principal components to add; 10 by default, none for inverted images."
        ),
    ] = None,
    space: Annotated[
        Literal["z", "w", "w+"] | None, typer.Option(help="Space of boundaries; w by default, w+ for inverted images.")
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Any other setting of the method, such as layers.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit directions on samples. Example: ganinv fit --store runs/a --estimator ridge"""
    from flows.cli.flags import nested

    given = {"estimator": estimator, "tails": tails, "components": components, "space": space, **nested(setting or [])}
    run_step(
        "tasks.steps.fit:run_fit",
        job,
        engine,
        as_json,
        methods=_methods(method, given, job.given.get("source") == "latents"),
    )


def _methods(method: str, given: Mapping[str, Any], of_inversions: bool) -> list[dict[str, Any]]:
    """The methods of a fit: the one that is named, and beside boundaries the principal components of samples of W."""
    fields = {key: value for key, value in given.items() if value is not None}
    if method != "interfacegan":
        return [{"method": method, **fields}]
    components = fields.pop("components", 0 if of_inversions else 10)
    space = {"space": "w+"} if of_inversions else {}
    return [{"method": method, "tails": 0.1, **space, **fields}, {"method": "ganspace", "components": components}]


@step(
    app,
    "tasks.steps.train:TrainJob",
    flat=("dataset",),
    made={"recipe": ("--set", "--steps")},
    flags={
        "dataset.url": Flag(help="Real images to train on; an encoder mixes them with generated ones."),
        "name": Flag(help="Name of the result in the store, by which methods find it; by default the recipe's kind."),
        "needed": Flag(help="ROLE=URI: a network it depends on, instead of the one in the recipe."),
    },
)
def train(
    job: Said,
    engine: Said,
    recipe: Annotated[str, typer.Argument(help="A recipe of configs/training, or a YAML file.")],
    steps: Annotated[int | None, typer.Option(help="Number of steps, instead of the recipe's.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting of the recipe, such as optimizer.lr=0.01."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Take two steps, estimate the cost of the training, and write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train an encoder or a generator from a recipe. Resumes from its last checkpoint if run again.

    Example: ganinv train portraits-64-e4e --store runs/a --dataset portraits.parquet --where split=train
    """
    changes = {key: as_yaml(value) for key, value in pairs(change).items()}
    changes |= {} if steps is None else {"steps": steps}
    made = load("ganinv.methods.registry:load_recipe")(recipe, changes)
    if dry_run:
        cost = load("tasks.training_cost:training_cost")(job.make(recipe=made))
        Console(stderr=True).print(cost.line(), highlight=False, markup=False, soft_wrap=True)
        show(vars(cost), as_json)
        return
    run_step("tasks.steps.train:run_train", job, engine, as_json, recipe=made)


@step(app, "tasks.steps.invert:InvertJob", flat=("dataset",), flags=OF_INVERT, ahead=WORKERS)
def invert(
    job: Said,
    engine: Said,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate the cost; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Invert a data set. If run again, computes only what is missing.

    Example: ganinv invert --store runs/a --dataset 'photos/*.png' --method pti
    """
    from ganinv.store import open_store
    from tasks.engine import open_pools
    from tasks.estimate import estimate
    from tasks.steps.invert import list_images, plan_invert, run_invert

    made, where_it_runs = job.make(), engine.make()
    root = open_store(made.store)
    latents = root.latents[made.collection_name]
    images = list_images(made, latents)
    plan = plan_invert(made, images, latents)
    cost = estimate(root, latents, plan, where_it_runs)
    Console(stderr=True).print(cost.line(), highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        show(vars(cost), as_json)
        return
    with open_pools(where_it_runs) as pools:
        result = run_invert(made, pools, plan, images)
    end(result, as_json, engine.allow_failed)


@step(
    app,
    "tasks.steps.fill:FillJob",
    flat=("dataset",),
    flags={
        **OF_INVERT,
        "dataset.url": Flag(argument=True),
        "name": Flag(help="Name of the result; by default <method>-filled."),
    },
    ahead=WORKERS,
)
def fill(
    job: Said,
    engine: Said,
    out: Annotated[str | None, typer.Option(help="Folder for the filled images, <image id>.png.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fill missing regions of images with any method. Known pixels stay exactly as they are.

    Example: ganinv fill 'photos/*.png' --store runs/a --masks masks --method invertfill --out filled
    """
    from pathlib import Path

    from ganinv.store import open_store
    from tasks.engine import open_pools
    from tasks.steps.fill import run_fill, write_pictures

    made = job.make()
    with open_pools(engine.make()) as pools:
        result = run_fill(made, pools)
    if out is not None:
        count = write_pictures(open_store(made.store).latents[made.collection_name], Path(out))
        result |= {"pictures": count, "out": out}
    end(result, as_json, engine.allow_failed)


@step(
    app,
    "tasks.steps.edit:EditJob",
    made={"edits": ("--edit", "--condition", "--trust", "--reference", "--attributes", "--editor")},
    flags={"images": Flag(default="files")},
    ahead=("tasks.steps.edit",),
)
def edit(
    job: Said,
    engine: Said,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--edit",
            help="smile=2; a sum: smile=2,age=-1; rows 0 to 3: smile(0-3)=2; version 3: smile@3=2; E(v1,0-3)=2; "
            "smile=1sd or yaw=10score: find the strength that changes the score by this much, image by image",
        ),
    ] = None,
    condition: Annotated[list[str] | None, typer.Option(help="Directions along which the edit must not move.")] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(help="Apply these imported directions although their generator was not verified."),
    ] = None,
    segment: Annotated[str | None, typer.Option(help="Edit only this segment, for codes that have segments.")] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="An image to copy attributes from, with or instead of --edit."),
    ] = None,
    attributes: Annotated[
        str,
        typer.Option(
            help="Attributes to copy, separated by commas: smile,glasses; by default all that the editor knows."
        ),
    ] = "",
    editor: Annotated[
        str,
        typer.Option(help="The editor that copies them; train one with ganinv train portraits-64-reference-editor."),
    ] = "reference-editor",
    as_json: AsJson = False,
) -> None:
    """Apply directions to stored inversions, or copy attributes from another image.

    Example: ganinv edit --store runs/a --latents pti --edit 'smile(0-7)=2' --edit age=1sd,glasses=1

    Example: ganinv edit --store runs/a --latents e4e --reference anna.png --attributes smile --name as-anna
    """
    from ganinv.editing import plain_edit

    if not edits and not reference:
        raise ConfigError("say what to do: --edit smile=2, or --reference IMAGE with an editor")
    wanted = [name.strip() for name in attributes.split(",") if name.strip()]
    specs: list[dict[str, Any]] = []
    for image in reference or ():
        name = f"{Path(image).stem}({','.join(wanted)})" if wanted else Path(image).stem
        by = {"reference": image, "attributes": wanted, "editor": editor}
        specs.append({"name": name, "strengths": [1.0], **by})
    for text in edits or ():
        more = {"strengths": [1.0], "conditions": condition or [], "trust": trust or [], "segment": segment}
        specs.append({"name": text, "directions": plain_edit(text), **more})
    run_step("tasks.steps.edit:run_edit", job, engine, as_json, edits=specs)


@step(
    app,
    "tasks.steps.evaluate:EvaluateJob",
    flags={"edits": Flag(help="Also measure these edits.")},
    ahead=("tasks.steps.evaluate",),
)
def evaluate(job: Said, engine: Said, as_json: AsJson = False) -> None:
    """Measure inversions (MSE, PSNR, SSIM, distance) and edits. Example: ganinv evaluate --store runs/a --latents pti"""
    run_step("tasks.steps.evaluate:run_evaluate", job, engine, as_json)


@step(
    app,
    "tasks.steps.report:ReportJob",
    engine=False,
    flags={"latents": Flag(help="Inversions to show, one collection per method; all by default.")},
)
def report(job: Said, as_json: AsJson = False) -> None:
    """Write an HTML report on the store. Example: ganinv report --store runs/a --latents pti --edits edits"""
    from ganinv.store import open_store

    latents = job.given.get("latents") or open_store(job.given["store"]).list("latents")
    show(load("tasks.steps.report:run_report")(job.make(latents=latents)), as_json)
