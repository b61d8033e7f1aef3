"""Commands on stored directions: ``ganinv directions fit | import | export | list | show | compare | deprecate``."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from flows.cli.apps import directions
from flows.cli.flags import StepCommand
from flows.cli.options import (
    AsJson,
    GeneratorUri,
    StoreUrl,
)
from flows.cli.output import print_table, show
from flows.cli.pipeline import fit
from ganinv.errors import ConfigError, GaninvError

if TYPE_CHECKING:
    from ganinv.directions.direction import Direction
    from ganinv.directions.exchange.declared import DeclaredGenerator
    from ganinv.editing.notation import Reference
    from ganinv.store import Store

Named = Annotated[str, typer.Argument(help="A direction, or one version of it: smile, smile@3.")]

directions.command("fit", cls=StepCommand)(fit)


@directions.command("import")
def import_file(
    file: Annotated[str, typer.Argument(help="npy, npz, pt, pkl or safetensors; a path or any fsspec URL.")],
    store: StoreUrl,
    generator: Annotated[
        str | None, typer.Option(help="The generator of the direction, if you have its weights.")
    ] = None,
    generator_name: Annotated[str | None, typer.Option(help="Without its weights: the generator's name.")] = None,
    resolution: Annotated[int | None, typer.Option(help="Without its weights: the resolution of its images.")] = None,
    w_dim: int = 512,
    z_dim: int = 512,
    space: Annotated[
        Literal["z", "w", "w+", "s"] | None,
        typer.Option(help="Space of the direction; for a single vector, the file cannot distinguish z from w."),
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Import only these: component number, key, or channel of S such as 6:501.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the direction; by default the file's.")] = None,
    layers: Annotated[str | None, typer.Option(help="Rows of W+ that it moves, such as 0-3, ends included.")] = None,
    mode: Annotated[Literal["relative", "absolute", "absolute-first-row"] | None, typer.Option()] = None,
    positive_means: Annotated[str, typer.Option(help="What a positive strength does.")] = "",
    sha256: Annotated[str | None, typer.Option(help="Refuse the file unless it has this hash.")] = None,
    as_json: AsJson = False,
) -> None:
    """Import published directions. Nothing in a file is run; anything that is not a direction is refused.

    A direction imported without its generator's weights is applied only if --trust names it.

    Example: ganinv directions import age.pt --store runs/a --generator-name stylegan2-ffhq --resolution 1024 --space w
    """
    from ganinv.directions.exchange.importing import import_directions
    from ganinv.store import open_store

    found = import_directions(
        file,
        _stated(generator, generator_name, resolution, w_dim, z_dim),
        space=space,
        select=select or (),
        name=name,
        layers=_rows(layers),
        mode=mode,
        positive_means=positive_means,
        sha256=sha256,
    )
    shelf = open_store(store).directions
    rows = [{"name": d.name, "version": shelf.put(d), **_imported(d)} for d in found]
    if as_json:
        show(rows, True)
        return
    table = Table(*(key.replace("_", " ") for key in rows[0]))
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    print_table(table)


@directions.command("export")
def export(
    names: Annotated[list[str], typer.Argument(help="smile, smile@3, or a pattern: 'pca-*'.")],
    out: Annotated[str, typer.Option(help="A file that ends in .npy, .pt or .npz.")],
    store: StoreUrl,
    form: Annotated[
        Literal["vector", "row", "rows", "batch", "flat"],
        typer.Option(help="Shape of a single direction: [D], [1, D], [L, D], [1, L, D] or [1, L*D]."),
    ] = "row",
    rows: Annotated[
        int | None, typer.Option(help="Number of rows L, if the direction is one vector for all rows.")
    ] = None,
) -> None:
    """Export directions for other programs. All components of one PCA are exported in GANSpace's layout.

    Example: ganinv directions export 'pca-*' --store runs/a --out own_pca.pt
    """
    from ganinv.directions.exchange.exporting import export_direction, export_directions
    from ganinv.store import open_store

    found = _matching(open_store(store), names)
    if len(found) == 1:
        shape = export_direction(found[0], out, form=form, num_ws=rows)
        Console().print(f"{found[0].name} as {list(shape)} in {out}", highlight=False, soft_wrap=True)
        if found[0].unit != 1.0:
            text = f"a step of strength 1 here is {found[0].unit:.4g} times the vector in the file"
            Console().print(text, highlight=False, soft_wrap=True)
        return
    keys = export_directions(found, out)
    Console().print(f"{len(found)} directions as {', '.join(keys[:8])} in {out}", highlight=False, soft_wrap=True)


@directions.command("list")
def directions_list(store: StoreUrl, as_json: AsJson = False) -> None:
    """List every direction and version with the quality of its fit. Version 0 ships with the named generator.

    Example: ganinv directions list --store runs/a
    """
    from ganinv.store import open_store

    rows = open_store(store).directions.list(shipped=True)
    if as_json:
        show(rows, True)
        return
    names = ("name", "version", "method", "space", "generator", "layers", "unit", "validation", "stability")
    table = Table(*names, "positive means", "deprecated")
    for row in rows:
        fit_report = row["report"]
        numbers = [fit_report.get("validation_accuracy"), fit_report.get("stability")]
        table.add_row(
            row["name"],
            str(row["version"]),
            row["method"],
            row["space"],
            f"{row['generator_name']} {row['generator_fingerprint'][:10]}",
            "all" if row["layers"] is None else f"{row['layers'][0]}-{row['layers'][1] - 1}",
            f"{row['unit']:.3g}",
            *("" if n is None else f"{n:.3f}" for n in numbers),
            row["positive_means"],
            row["deprecated"] or "",
            style=None if row["deprecated"] is None else "dim",
        )
    print_table(table)


@directions.command("show")
def directions_show(
    name: Named,
    store: StoreUrl,
    out: Annotated[Path | None, typer.Option(help="PNG of the strip; <name>-<version>.png by default.")] = None,
    strengths: Annotated[str, typer.Option(help="Strengths to show, one per column.")] = "-3,-2,-1,0,1,2,3",
    samples: Annotated[int, typer.Option(help="Number of samples, one per row.")] = 8,
    seed: Annotated[int, typer.Option(help="Random seed of the samples.")] = 0,
    generator: GeneratorUri = "portraits-64",
    trust: Annotated[
        bool, typer.Option("--trust", help="Draw a direction although its generator was not verified.")
    ] = False,
    version: Annotated[int | None, typer.Option(help="The same as NAME@VERSION.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a direction: its record and report, and a strip of edits as PNG. With --json only the record, unless
    --out asks for the strip.

    Example: ganinv directions show smile --store runs/a --out smile.png
    """
    from ganinv.store import open_store

    direction = _get(open_store(store), name, version)
    arrays, metadata = direction.to_record()
    record: dict[str, Any] = {**metadata, "version": direction.version, "shape": list(arrays["vector"].shape)}
    if as_json and out is None:
        show(record, True)
        return
    try:
        target: Path | str = _draw(direction, out, _numbers(strengths), samples, seed, generator, trust)
    except GaninvError as error:
        if out is not None:
            raise
        target = f"none: {error}"
    if as_json:
        show({**record, "strip": str(target)}, True)
        return
    for key, value in _lines({**record, "strip": str(target)}):
        Console().print(f"[bold]{key}[/]: ", end="")
        Console().print(value, highlight=False, soft_wrap=True, markup=False)


@directions.command("compare")
def directions_compare(first: Named, second: Named, store: StoreUrl, as_json: AsJson = False) -> None:
    """Compare two directions or versions: their cosine, and what is left of each if the other is held constant.

    Example: ganinv directions compare smile@1 smile@2 --store runs/a
    """
    from ganinv.directions.measuring.comparing import compare_directions
    from ganinv.store import open_store

    root = open_store(store)
    found = compare_directions(_get(root, first), _get(root, second)).as_dict()
    if as_json:
        show(found, True)
        return
    for key, value in _lines(found):
        Console().print(f"[bold]{key.replace('_', ' ')}[/]: {value}", highlight=False, soft_wrap=True)


@directions.command("deprecate")
def directions_deprecate(
    name: Named,
    store: StoreUrl,
    reason: Annotated[str, typer.Option(help="Shown to anyone who uses the direction.")],
) -> None:
    """Mark a version, or a direction with all its versions, as not to be used any more. This cannot be undone.

    Example: ganinv directions deprecate smile@2 --store runs/a --reason "fitted on mislabelled samples"
    """
    from ganinv.store import open_store

    reference = _reference(name)
    open_store(store).directions.deprecate(reference.name, reason, reference.version)
    Console().print(f"{reference} is deprecated: {reason}", highlight=False, soft_wrap=True, markup=False)


def _stated(
    generator: str | None, name: str | None, resolution: int | None, w_dim: int, z_dim: int
) -> DeclaredGenerator:
    from ganinv.directions.exchange.declared import DeclaredGenerator

    if generator is not None:
        from ganinv.generators.files import open_generator

        return DeclaredGenerator.of(open_generator(generator))
    if name is None or resolution is None:
        raise ConfigError(
            "no file says which generator a direction belongs to: give --generator with its weights, or --generator-name "
            "and --resolution"
        )
    return DeclaredGenerator(name, resolution, w_dim, z_dim)


def _imported(direction: Direction) -> dict[str, Any]:
    source = direction.report["source"]
    return {
        "space": direction.space,
        "shape": ", ".join(name for name, _ in direction.style_layers) if direction.style_layers else source["shape"],
        "equal_rows": source.get("equal_rows", ""),
        "norm": round(source["norm"], 4),
        "unit": round(direction.unit, 4),
        "generator": direction.generator_name,
        "verified": direction.verified,
    }


def _draw(
    direction: Direction, out: Path | None, strengths: list[float], samples: int, seed: int, generator: str, trust: bool
) -> Path:
    from ganinv.generators.files import open_generator
    from ganinv.report.direction_strips import direction_strips
    from ganinv.store.local import replace_file

    loaded = open_generator(generator)
    data = direction_strips(loaded, direction, strengths, samples=samples, seed=seed, trust=trust)
    target = out or Path(f"{direction.name}-{direction.version}.png")
    replace_file(str(target), data)
    return target


def _matching(store: Store, names: list[str]) -> list[Direction]:
    """Directions by name, version or pattern, each once."""
    found: dict[str, Direction] = {}
    for text in names:
        if any(letter in text for letter in "*?["):
            known = sorted({row["name"] for row in store.directions.list(shipped=True) if row["deprecated"] is None})
            matches = [name for name in known if fnmatch(name, text)]
            if not matches:
                raise ConfigError(f"no direction matches {text!r}; there are: {', '.join(known) or 'none'}")
            found |= {name: store.directions.get(name) for name in matches}
        else:
            found[text] = _get(store, text)
    return list(found.values())


def _get(store: Store, name: str, version: int | None = None) -> Direction:
    reference = _reference(name)
    if version is not None and reference.version not in (None, version):
        raise ConfigError(f"{name} and --version {version} are two versions; give one")
    named = version if reference.version is None else reference.version  # 0 is a version: the one that ships
    return store.directions.get(reference.name, version=named)


def _reference(name: str) -> Reference:
    from ganinv.editing.notation import parse_reference

    reference = parse_reference(name)
    if reference.layers is not None:
        raise ConfigError(f"{name!r}: rows are given when a direction is applied; name it as {reference.stored!r}")
    return reference


def _rows(text: str | None) -> tuple[int, int] | None:
    """``0-3`` to rows [0, 4)."""
    from ganinv.editing.notation import parse_reference

    return None if text is None else parse_reference(f"rows({text})").layers


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"expected strengths such as -2,0,2, got {text!r}") from None


def _lines(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested record as lines; numbers are rounded."""
    lines = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            lines += _lines(value, f"{name}.")
        elif value is not None and value != "":
            lines.append((name, _brief(value)))
    return lines


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return ", ".join(_brief(v) for v in value[:12]) + (", ..." if len(value) > 12 else "")
    return str(value)
