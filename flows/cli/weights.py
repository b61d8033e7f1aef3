"""Commands for weight files: ``ganinv inspect``, ``import``, ``export``, ``catalogue``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from flows.cli.apps import app
from flows.cli.flags import pairs
from flows.cli.options import AsJson, NeededPlaces, StoreUrl
from flows.cli.output import print_table, show
from ganinv.errors import WeightsRefused, printable

if TYPE_CHECKING:
    from ganinv.generators.catalogue import Source
    from ganinv.reading.download import DownloadProgress as Report
    from ganinv.weights.inspection import Inspection

Weights = Annotated[
    str, typer.Argument(help="A file, a folder in ganinv's format, any fsspec URL, or a name from the catalogue.")
]
Sha256 = Annotated[str | None, typer.Option(help="Refuse the file unless it has this hash.")]
CatalogueFile = Annotated[
    Path | None, typer.Option("--catalogue", help="Your own catalogue, a YAML file like configs/catalogue.yaml.")
]
EncoderType = Annotated[
    str | None, typer.Option(help="Published class of the encoder, if the file does not name it: Encoder4Editing, ...")
]


@app.command()
def inspect(
    weights: Weights,
    network: Annotated[Literal["G_ema", "G", "D"] | None, typer.Option(help="Network to read from the file.")] = None,
    grid: Annotated[Path | None, typer.Option(help="Write a sheet of samples to this PNG.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the samples.")] = 0,
    truncation_psi: Annotated[float, typer.Option(help="Truncation of the samples.")] = 0.7,
    encoder_type: EncoderType = None,
    sha256: Sha256 = None,
    catalogue: CatalogueFile = None,
    as_json: AsJson = False,
) -> None:
    """Describe a weight file, without running anything in it. Exit code 2 if it is neither a generator nor an encoder.

    Example: ganinv inspect stylegan2-ffhq-512x512.pkl --grid samples.png
    """
    from ganinv.weights.inspection import inspect_weights

    try:
        source = _fetched(weights, sha256, catalogue)
        found = inspect_weights(source.url, network=network, sha256=source.sha256, encoder_type=encoder_type)
        if grid is not None:
            _write_grid(grid, source, found, network, seed, truncation_psi)
    except WeightsRefused as error:
        Console(stderr=True).print(f"[bold red]ganinv:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None
    facts = asdict(found) | {"summary": found.summary} | ({"grid": str(grid)} if grid is not None else {})
    if as_json:
        show(facts, True)
        return
    _show_facts(found)
    if grid is not None:
        _print(f"[bold]samples[/] {grid} (seed {seed}, psi {truncation_psi:g})")


@app.command("import")
def import_(
    weights: Weights,
    name: Annotated[
        str | None, typer.Option(help="Name in the store; by default that of the catalogue or the file.")
    ] = None,
    store: StoreUrl = "runs/weights",
    only: Annotated[
        Literal["generator", "encoder"] | None, typer.Option(help="Import only this part of an encoder checkpoint.")
    ] = None,
    network: Annotated[Literal["G_ema", "G"] | None, typer.Option(help="Generator to read from the file.")] = None,
    generator: Annotated[
        str | None, typer.Option(help="Bind the encoder to this generator instead of its own decoder.")
    ] = None,
    encoder_type: EncoderType = None,
    needed: NeededPlaces = None,
    sha256: Sha256 = None,
    catalogue: CatalogueFile = None,
    as_json: AsJson = False,
) -> None:
    """Import a generator or a published encoder into a store. If run again, it changes nothing.

    Example: ganinv import ffhq-1024 --store runs/mine
    """
    from ganinv.store import open_store
    from ganinv.weights.importing import import_weights

    source = _fetched(weights, sha256, catalogue)
    imported = import_weights(
        source,
        open_store(store),
        name,
        only=only,
        network=network,
        generator=generator,
        encoder_type=encoder_type,
        needed=pairs(needed),
    )
    if as_json:
        show([asdict(one) for one in imported], True)
        return
    for one in imported:
        stands = "already there" if one.already else "imported"
        _print(f"[bold]{one.kind} {one.name}[/] {stands}, fingerprint {one.fingerprint[:12]}")
        _print(f"  sha256 of the file: {_told(one.origin.get('sha256'))}")
        uri = escape(one.uri)
        if one.kind == "encoder":
            _print(f"  in methods of this store: encoder: {one.name}\n  elsewhere:   --encoder {one.name}={uri}")
        else:
            _print(f"  in commands: --{one.kind} {uri}\n  in jobs:     {one.kind}: {uri}")


@app.command()
def export(
    weights: Weights,
    to: Annotated[str, typer.Argument(help="The file to write (ganinv: the folder); any fsspec URL.")],
    format: Annotated[
        Literal["ganinv", "rosinality", "nvidia"],
        typer.Option(
            help="ganinv: safetensors and JSON. rosinality: a .pt for its many descendants; no classes, skip architecture "
            "only, clamps are lost. nvidia: state dicts with NVIDIA's names; not a pickle that its programs open."
        ),
    ] = "ganinv",
    network: Annotated[Literal["G_ema", "G"] | None, typer.Option(help="Generator to read from the file.")] = None,
    half: Annotated[bool, typer.Option(help="Store float16, which rounds the weights.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
    sha256: Sha256 = None,
    catalogue: CatalogueFile = None,
    as_json: AsJson = False,
) -> None:
    """Export a generator for other programs.

    Example: ganinv export runs/mine/generators/ffhq-1024 ffhq.pt --format rosinality
    """
    from ganinv.weights.importing import export_generator

    source = _fetched(weights, sha256, catalogue)
    written = export_generator(source, to, format, network=network, half=half, overwrite=overwrite)
    show({"written": to, "format": format, "generator": written.name, "fingerprint": written.fingerprint}, as_json)


@app.command("catalogue")
def catalogue_(catalogue: CatalogueFile = None, as_json: AsJson = False) -> None:
    """List published generators that can be imported by name, and their licences.

    Example: ganinv catalogue --json
    """
    from ganinv.generators.catalogue import load_catalogue

    entries = load_catalogue(catalogue).values()
    if as_json:
        show([asdict(entry) | {"licence": entry.licence.model_dump()} for entry in entries], True)
        return
    licences = list(dict.fromkeys(entry.licence for entry in entries))
    table = Table("name", "resolution", "what it makes", "licence", "sha256")
    for entry in entries:
        digest = f"{entry.sha256[:12]}..." if entry.sha256 else "not known"
        table.add_row(entry.name, str(entry.resolution), entry.notes, f"({licences.index(entry.licence) + 1})", digest)
    print_table(table)
    for number, licence in enumerate(licences, 1):
        _print(f"({number}) {licence}")


def _fetched(weights: str, sha256: str | None, catalogue: Path | None) -> Source:
    """The requested weights, in the cache if they are remote. The licence is shown before anything is downloaded."""
    from ganinv.generators.catalogue import find_source
    from ganinv.weights.importing import fetch_source

    source = find_source(weights, sha256=sha256, catalogue=catalogue)
    if source.entry is not None:
        Console(stderr=True).print(
            f"[bold]{source.entry.name}[/]: {source.entry.notes} Licence: {source.entry.licence}",
            highlight=False,
            soft_wrap=True,
        )
    with _progress(source.url) as report:
        fetch_source(source, report)
    return source


@contextlib.contextmanager
def _progress(url: str) -> Iterator[Report]:
    """A progress bar on the error stream, once there is something to show."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True))
    task = bar.add_task(url.rpartition("/")[2][:40], total=None)

    def report(done: int, total: int | None) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


def _write_grid(grid: Path, source: Source, found: Inspection, network: str | None, seed: int, psi: float) -> None:
    from ganinv.errors import ConfigError
    from ganinv.generators.files import open_generator
    from ganinv.generators.grid import sample_grid

    if found.generator is None:
        raise ConfigError("a sheet of samples needs a generator, and this is not one; leave --grid out")
    generator = open_generator(source.url, network="G" if network == "G" else None, sha256=source.sha256)
    grid.parent.mkdir(parents=True, exist_ok=True)
    sample_grid(generator, 4, 6, psi=psi, seed=seed, largest=256).save(grid, "PNG")


def _show_facts(found: Inspection) -> None:
    """One fact per line, without empty ones."""
    _print(f"[bold]{escape(found.summary)}[/]")
    facts: dict[str, Any] = {"file": {"bytes": found.size, "sha256": found.sha256}}
    if found.networks:
        facts["networks"] = [
            f"{n.role or 'one without a name'} ({n.kind}, {n.layout}{f', under {n.prefix}' if n.prefix else ''})"
            for n in found.networks
        ]
    for part in ("generator", "discriminator", "encoder"):
        if (of := getattr(found, part)) is not None:
            facts[part] = asdict(of)
    facts |= {"no discriminator": found.no_discriminator, "no encoder": found.encoder_refused}
    for key, value in facts.items():
        inner = {name: v for name, v in value.items() if _told(v)} if isinstance(value, dict) else value
        if inner:
            _print(f"[bold]{key}[/]" + ("" if isinstance(inner, dict) else f": {escape(_told(inner))}"))
        for name, v in inner.items() if isinstance(inner, dict) else ():
            _print(f"  {name}: {escape(_told(v))}")


def _told(value: Any) -> str:
    """A fact on one line; "" if there is nothing to show."""
    if isinstance(value, dict):
        inner = {key: f"({_told(v)})" if isinstance(v, dict) else f"{_told(v)}" for key, v in value.items() if _told(v)}
        return ", ".join(f"{key} {text}" for key, text in inner.items())
    if isinstance(value, list | tuple):
        return ", ".join(_told(v) for v in value)
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else printable(str(value))


def _print(text: str) -> None:
    Console().print(text, highlight=False, soft_wrap=True)
