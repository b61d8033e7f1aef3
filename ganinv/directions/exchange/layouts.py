"""The layouts of published direction files: what the arrays in a file are, told from names, shapes and types alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ganinv.directions.direction import Mode, Space
from ganinv.directions.exchange.checked import (
    all_vectors,
    brief,
    is_scalar,
    is_vector,
    numbers,
    plain,
    row_range,
    same_length,
)
from ganinv.directions.exchange.declared import DeclaredGenerator
from ganinv.directions.exchange.direction_files import DirectionFile
from ganinv.directions.exchange.latents import refuse_latents, without_key
from ganinv.errors import ConfigError, DataError

_LAYER = re.compile(r"(convs|torgbs)\.\d{1,3}")
_GANSPACE_NPZ = ("act_comp", "act_mean", "act_stdev", "lat_comp", "lat_mean", "lat_stdev")


@dataclass(frozen=True)
class PublishedDirection:
    """One direction of a file, as the file has it.

    Args:
        key: what selects it: a component's number, a dictionary's key, ``LAYER:CHANNEL``; "" where a file has but one.
        array: of any of the published shapes; in S one array for every layer, or for each layer that is named.
        space, mode, layers, unit, mean: what the file says of them, None if it does not.
        name: one that the layout suggests, "" for the file's name.
        report: more that it says.
    """

    key: str
    array: np.ndarray | tuple[np.ndarray, ...] | dict[str, np.ndarray]
    layout: str
    name: str = ""
    space: Space | None = None
    mode: Mode = "relative"
    layers: tuple[int, int] | None = None
    unit: float = 1.0
    mean: np.ndarray | None = None
    report: dict[str, Any] = field(default_factory=dict)


Entries = Mapping[str, Callable[[], PublishedDirection]] | Callable[[str], PublishedDirection]
"""Key -> entry; or, for statistics, a function of the key."""


def find_entries(
    file: DirectionFile, select: Sequence[str] = (), generator: DeclaredGenerator | None = None
) -> list[PublishedDirection]:
    """The directions in a file.

    Args:
        generator: where it is given, latents of it are refused.
        select: keys of those that are wanted; all by default. Statistics of S hold channels to be selected from.

    Raises:
        DataError: there is no direction in it, or none is selected of a file of statistics.
        ConfigError: a key it does not have.
    """
    whole = plain(file.tree, file)
    tree, select = without_key(whole, select)
    for layout in (_components, _in_domain, _viewer, _factors, _statistics, _styles, _layers, _vector, _named):
        found = layout(tree, file)
        if found is not None:
            if generator is not None and layout in (_vector, _named):
                refuse_latents(tree if tree is whole else (), file, generator)
            return _selected(found, select, file)
    if generator is not None:
        refuse_latents(tree, file, generator)
    raise DataError(
        f"{file.name}: no direction in it. It holds {brief(tree)}; expected a vector [w_dim], [1, w_dim], [L, w_dim] or "
        "[1, L, w_dim], GANSpace components (comp, mean, std), named vectors, or statistics of S"
    )


def _selected(entries: Entries, select: Sequence[str], file: DirectionFile) -> list[PublishedDirection]:
    if callable(entries):
        if not select:
            raise DataError(
                f"{file.name} holds the mean and standard deviation of S, from which no direction follows by itself: select "
                "channels as LAYER:CHANNEL, such as 6:501 (counted from 0) or convs.4:501"
            )
        return [entries(key) for key in select]
    keys = [_normal(key, entries) for key in select] or list(entries)
    for key in keys:
        if key not in entries:
            known = list(entries)
            shown = ", ".join(known[:8]) + (f", ... ({len(known)} in all)" if len(known) > 8 else "")
            raise ConfigError(f"{file.name} has no direction {key!r}; there are: {shown or 'only one, without a key'}")
    return [entries[key]() for key in keys]


def _normal(key: str, entries: Mapping[str, Any]) -> str:
    """``07`` is component 7."""
    return str(int(key)) if key.isdecimal() and key not in entries else key


def _vector(tree: Any, file: DirectionFile) -> Entries | None:
    if not isinstance(tree, np.ndarray):
        return None
    return {"": lambda: PublishedDirection("", numbers(tree, file, "its array"), "vector")}


def _components(tree: Any, file: DirectionFile) -> Entries | None:
    """GANSpace: the official npz, and the ``*_pca.pt`` of the e4e family. The order of keys varies."""
    if not isinstance(tree, Mapping):
        return None
    if all(isinstance(tree.get(key), np.ndarray) for key in _GANSPACE_NPZ):
        comp, mean, std, layout = tree["lat_comp"], tree["lat_mean"], tree["lat_stdev"], "ganspace npz"
    elif all(isinstance(tree.get(key), np.ndarray) for key in ("comp", "mean", "std")):
        comp, mean, std, layout = tree["comp"], tree["mean"], tree["std"], "ganspace pca"
    else:
        return None
    for what, array in (("comp", comp), ("mean", mean), ("std", std)):
        numbers(array, file, what)
    comp, mean, std = comp.reshape(len(comp), -1), mean.reshape(-1), std.reshape(-1)
    if len(std) != len(comp) or mean.shape != comp.shape[1:]:
        raise DataError(
            f"{file.name}: {len(comp)} components of {comp.shape[1]} need as many std and a mean of that length, got "
            f"{len(std)} and {len(mean)}"
        )
    # In Z mode GANSpace writes ones: the latents are standard normal.
    space: Space | None = None if (std == 1).all() else "w"
    extra = {
        k: tree[k].reshape(-1) for k in ("act_stdev", "var_ratio", "random_stdevs") if same_length(tree.get(k), std)
    }

    def entry(i: int) -> PublishedDirection:
        report: dict[str, Any] = {"component": i, "sigma": float(std[i])}
        report |= {key: float(values[i]) for key, values in extra.items()}
        if layout == "ganspace npz":
            same = np.array_equal(tree["act_comp"].reshape(-1), comp.reshape(-1))
            report["act_is_lat"] = bool(same and np.array_equal(tree["act_mean"].reshape(-1), mean))
        return PublishedDirection(
            str(i), comp[i], layout, f"pca-{i:02d}", space, "absolute", unit=float(std[i]), mean=mean, report=report
        )

    return {str(i): partial(entry, i) for i in range(len(comp))}


def _in_domain(tree: Any, file: DirectionFile) -> Entries | None:
    """idinvert: ``{boundary, meta_data: {manipulate_layers}}``, pickled inside a npy."""
    if not isinstance(tree, Mapping) or not isinstance(tree.get("boundary"), np.ndarray):
        return None
    meta = tree.get("meta_data")
    meta = meta if isinstance(meta, Mapping) else {}
    layers = row_range(meta.get("manipulate_layers"), file)
    report = {"meta_data": {str(k): v for k, v in meta.items() if isinstance(v, str | int | float | bool)}}
    array = numbers(tree["boundary"], file, "boundary")
    return {"": lambda: PublishedDirection("", array, "in-domain", layers=layers, report=report)}


def _viewer(tree: Any, file: DirectionFile) -> Entries | None:
    """What GANSpace's interactive viewer exports: one component with its range of layers."""
    if not isinstance(tree, Mapping) or not {"lat_comp", "lat_stdev", "latent_space"} <= tree.keys():
        return None
    array, sigma = numbers(tree["lat_comp"], file, "lat_comp"), tree["lat_stdev"]
    if not isinstance(sigma, int | float):
        raise DataError(f"{file.name}: lat_stdev must be one number, it is {brief(sigma)}")
    start, end = tree.get("edit_start"), tree.get("edit_end")
    layers = (start, end) if isinstance(start, int) and isinstance(end, int) else None
    report = {
        k: tree[k] for k in ("component_index", "model_name", "output_class", "truncation") if is_scalar(tree.get(k))
    }
    space: Space | None = {"W": "w", "Z": "z"}.get(str(tree["latent_space"]))  # type: ignore[assignment]
    return {
        "": lambda: PublishedDirection(
            "",
            array,
            "ganspace viewer",
            space=space,
            layers=layers if space != "z" else None,
            unit=float(sigma),
            report=report,
        )
    }


def _factors(tree: Any, file: DirectionFile) -> Entries | None:
    """rosinality's ``factor.pt``: columns of ``eigvec`` are SeFa directions, largest singular value first."""
    if not isinstance(tree, Mapping) or not isinstance(tree.get("eigvec"), np.ndarray):
        return None
    vectors = numbers(tree["eigvec"], file, "eigvec")
    if vectors.ndim != 2:
        raise DataError(f"{file.name}: eigvec must have one direction per column [w_dim, N], got {vectors.shape}")

    def entry(i: int) -> PublishedDirection:
        column = np.ascontiguousarray(vectors[:, i])
        return PublishedDirection(str(i), column, "sefa factor", f"sefa-{i:02d}", "w", report={"component": i})

    return {str(i): partial(entry, i) for i in range(vectors.shape[1])}


def _statistics(tree: Any, file: DirectionFile) -> Entries | None:
    """StyleSpace's ``S_mean_std``: [means, deviations], each one vector per layer of S."""
    parts = list(tree.values()) if isinstance(tree, Mapping) and set(tree) == {"mean", "std"} else tree
    if not isinstance(parts, list | tuple) or len(parts) != 2 or not all(map(all_vectors, parts)):
        return None
    means, deviations = ([numbers(a, file, "S").reshape(-1) for a in part] for part in parts)
    widths = [len(a) for a in means]
    if widths != [len(a) for a in deviations]:
        raise DataError(f"{file.name}: means and deviations of S have layers of different lengths")

    def channel(key: str) -> PublishedDirection:
        layer, colon, number = key.partition(":")
        names = {name: i for i, name in enumerate(style_names(len(widths)))}
        index = names.get(layer, int(layer) if layer.isdecimal() else -1)
        if not colon or not 0 <= index < len(widths) or not number.isdecimal() or int(number) >= widths[index]:
            raise ConfigError(
                f"{file.name}: no channel {key!r}; expected LAYER:CHANNEL with a layer 0 to {len(widths) - 1} (or its name, "
                f"such as convs.4) and a channel below its width ({', '.join(map(str, widths))})"
            )
        c = int(number)
        arrays = tuple(np.zeros(width, dtype=deviations[i].dtype) for i, width in enumerate(widths))
        arrays[index][c] = 1
        report = {"layer": index, "channel": c, "mean": float(means[index][c])}
        unit = float(deviations[index][c])
        return PublishedDirection(key, arrays, "style statistics", f"s-{index}-{c}", "s", unit=unit, report=report)

    return channel


def _styles(tree: Any, file: DirectionFile) -> Entries | None:
    """A direction in S as one array per layer."""
    if not all_vectors(tree) or len(tree) < 2:
        return None
    arrays = tuple(numbers(a, file, "S").reshape(-1) for a in tree)
    return {"": lambda: PublishedDirection("", arrays, "styles", space="s")}


def _layers(tree: Any, file: DirectionFile) -> Entries | None:
    """A direction in S as a dictionary of layer name to styles: how this project exports one."""
    if not isinstance(tree, Mapping) or not tree or not all(_LAYER.fullmatch(str(key)) for key in tree):
        return None
    arrays = {str(key): numbers(value, file, str(key)).reshape(-1) for key, value in tree.items()}
    return {"": lambda: PublishedDirection("", arrays, "style layers", space="s")}


def _named(tree: Any, file: DirectionFile) -> Entries | None:
    """A dictionary of vectors, as anycost-gan's boundaries; a npz of one array is that array."""
    if not isinstance(tree, Mapping):
        return None
    vectors = {str(k): v for k, v in tree.items() if isinstance(v, np.ndarray) and is_vector(v)}
    # A checkpoint has vectors too (biases, averages); a file of directions has nothing else.
    others = [v for k, v in tree.items() if str(k) not in vectors and not is_scalar(v) and v is not None]
    if others or len({v.size for v in vectors.values()}) != 1:
        return None

    def entry(key: str) -> PublishedDirection:
        single = len(vectors) == 1
        name = "" if single else key
        return PublishedDirection("" if single else key, numbers(vectors[key], file, key), "named vectors", name)

    return {"" if len(vectors) == 1 else key: partial(entry, key) for key in vectors}


def style_names(layers: int) -> list[str]:
    """Names of that many layers of S, in order of use: ``convs.0, torgbs.0, convs.1, convs.2, torgbs.1, ...``."""

    def names() -> Iterator[str]:
        yield from ("convs.0", "torgbs.0")
        for b in range(1, layers):
            yield from (f"convs.{2 * b - 1}", f"convs.{2 * b}", f"torgbs.{b}")

    return [name for name, _ in zip(names(), range(layers), strict=False)]
