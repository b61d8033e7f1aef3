"""Commands on stored inversions: ``ganinv render``, ``compress``, ``editability``, ``latents list | show | render``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from flows.cli.apps import app, latents
from flows.cli.flags import Flag, Said, pairs, step
from flows.cli.jobs import run_step
from flows.cli.options import AsJson, EncoderPlaces, GeneratorUri, NeededPlaces, StoreUrl, out_folder
from flows.cli.output import print_table, show

Name = Annotated[str, typer.Argument(help="Which inversions: pti, or latents/pti.")]


@latents.command("render")
@app.command()
def render(
    name: Name,
    store: StoreUrl,
    out: Annotated[Path, typer.Option(help="Folder for the PNG files.")],
    image_id: Annotated[list[str] | None, typer.Option("--id", help="Only these images.")] = None,
    edits: Annotated[
        list[str] | None, typer.Option("--edit", help="smile=2; a sum: smile=2,age=-1; smile=1sd; see ganinv edit.")
    ] = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="One picture per image, with a row per edit and a column per strength.")
    ] = False,
    encoder: EncoderPlaces = None,
    needed: NeededPlaces = None,
    generator: GeneratorUri = "portraits-64",
    labeller: Annotated[str, typer.Option(help="Labeller that measures strengths such as 1sd.")] = "portraits-64",
) -> None:
    """Render stored inversions, and edits of them, as PNG files.

    Example: ganinv render pti --store runs/a --out renders --id anna --edit smile=2 --edit age=-1 --strip
    """
    from flows.render import render_latents

    written = render_latents(
        store,
        _plain(name),
        out_folder(out),
        image_id,
        generator,
        edits or (),
        strip,
        pairs(encoder),
        pairs(needed),
        labeller,
    )
    Console().print(f"{written} images in {out}")


@step(
    app,
    "tasks.steps.compress:CompressJob",
    flat=("record",),
    flags={
        "latents": Flag(argument=True, help="Which inversions: pti, or latents/pti."),
        "name": Flag("--to", help="Name of the compressed inversions."),
        "record.form": Flag(help="low-rank where --error or --rank is given, else as-is."),
        "record.error": Flag(help="Low rank: relative error that each weight tensor may have, such as 0.2."),
        "record.max_rank": Flag("--rank", help="Low rank: the most that any tensor gets."),
        "record.dtype": Flag(help="int8: a row of a weight offset has one step."),
        "record.max_rise": Flag(
            help="Records whose distance would rise by more than this part of it are kept as they are."
        ),
    },
)
def compress(job: Said, engine: Said, as_json: AsJson = False) -> None:
    """Store inversions in a smaller form: low rank (--error, --rank), --dtype int8, or both. The source is kept.

    Example: ganinv compress pti --store runs/a --to pti-small --error 0.2 --dtype int8
    """
    record = job.given.get("record", {})
    if {"error", "max_rank"} & record.keys():
        # A rank alone is a rank, whatever the error.
        record = {"form": "low-rank", "error": 0.0, **record}
    names = {field: _plain(job.given[field]) for field in ("latents", "name")}
    run_step("tasks.steps.compress:run_compress", job, engine, as_json, record=record, **names)


@app.command()
def editability(
    store: StoreUrl,
    edits: Annotated[list[str], typer.Option(help="Collections of edits, one per inversion method, evaluated.")],
    out: Annotated[Path, typer.Option(help="Folder for editability.md and a plot per edit.")],
) -> None:
    """Compare how well inversion methods preserve a person along an edit, at equal changes of the attribute.

    Example: ganinv editability --store runs/a --edits e4e --edits pti --out curves
    (before: ganinv evaluate --store runs/a --latents pti --edits pti --similarity embedded)
    """
    from ganinv.report.editability import read_curves
    from ganinv.report.editability_page import editability_page
    from ganinv.store import open_store

    root = open_store(store)
    measured = {name: root.collection("edit-metrics", name) for name in edits}
    labels = {str(each.provenance().get("method") or name): each for name, each in measured.items()}
    methods = labels if len(labels) == len(measured) else measured
    curves = read_curves(root, methods)
    out.mkdir(parents=True, exist_ok=True)
    name = next(iter(methods.values())).provenance()["similarity_name"]
    for file, text in editability_page(curves, name).items():
        (out / file).write_text(text)
    Console().print(f"{len(curves)} curves in {out / 'editability.md'}")


def _plain(name: str) -> str:
    return name.removeprefix("latents/")


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
        show(rows, True)
        return
    table = Table("name", "method", "planned", "done", "failed", "left", "generator")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    print_table(table, f"there are no inversions in {root.url} yet: ganinv invert makes some")


@latents.command("show")
def latents_show(name: str, store: StoreUrl, as_json: AsJson = False) -> None:
    """Provenance, counts and errors of one collection. Example: ganinv latents show pti --store runs/a"""
    from ganinv.store import open_store

    collection = open_store(store).latents[name]
    errors = collection.errors().to_pylist()
    show({"url": collection.url, **vars(collection.status()), **collection.provenance(), "errors": errors}, as_json)


@latents.command("import")
def latents_import(
    files: Annotated[
        list[str],
        typer.Argument(help="projected_w.npz, latents.pt, .npy, or folders of them, such as PTI's embeddings."),
    ],
    store: StoreUrl,
    name: Annotated[str, typer.Option(help="Name of the inversions in the store.")],
    generator: GeneratorUri = "portraits-64",
    ids: Annotated[
        str | None,
        typer.Option(
            help="Names for files that contain none: a text file with one name per line, or the folder of the inverted images, "
            "whose names are used in order."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import latents in W or W+ written by another program, to render, edit or fit directions on them.

    Example: ganinv latents import out/projected_w.npz --store runs/a --name projected --generator ffhq.pkl
    """
    from ganinv.generators.files import open_generator
    from ganinv.records.bringing import bring_latents
    from ganinv.store import open_store

    root = open_store(store)
    manifest = bring_latents(files, root, _plain(name), open_generator(generator), ids)
    found = root.latents[_plain(name)]
    show({"collection": found.path, "url": found.url, "rows": manifest.rows, "failed": manifest.failed}, as_json)


@latents.command("export")
def latents_export(
    name: Name,
    store: StoreUrl,
    out: Annotated[str, typer.Option(help="Output folder: a path or any fsspec URL.")],
    form: Annotated[
        Literal["projected-w", "latents-pt", "latents-npy", "pivots"],
        typer.Option(
            "--format",
            help="projected-w: NVIDIA's, a folder with projected_w.npz per image. latents-pt: pSp's and e4e's latents.pt. "
            "latents-npy: the same as .npy. pivots: PTI's, a folder with 0.pt per image.",
        ),
    ] = "latents-pt",
    generators: Annotated[
        Literal["rosinality", "nvidia", "ganinv", "none"],
        typer.Option(help="Format of the tuned generators; see ganinv export."),
    ] = "rosinality",
    image_id: Annotated[list[str] | None, typer.Option("--id", help="Only these images.")] = None,
    encoder: EncoderPlaces = None,
    needed: NeededPlaces = None,
    generator: GeneratorUri = "portraits-64",
    as_json: AsJson = False,
) -> None:
    """Export stored inversions for other programs: w, and tuned generators if there are any.

    Example: ganinv latents export pti --store runs/a --out for-pti --format pivots
    """
    from flows.render import open_latents
    from ganinv.records.exporting import export_latents

    root, collection, opened = open_latents(store, _plain(name), generator)
    written = export_latents(
        collection,
        root,
        opened,
        out,
        form,
        ids=image_id,
        generators=None if generators == "none" else generators,
        encoders=pairs(encoder),
        needed=pairs(needed),
    )
    facts = {"latents": written.latents, "tuned_generators": written.generators, "files": written.files, "out": out}
    show(facts | {"left_out": dict(written.left)}, as_json)
    for part, count in written.left.items():
        Console(stderr=True).print(
            f"{part} of {count} images are in no file of other programs: there they render without", highlight=False
        )
