"""Latents of other programs as a collection of inversions, which can be edited, rendered and compressed like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import torch

from ganinv.data import open_dataset
from ganinv.errors import DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.records.codes import records_to_table
from ganinv.records.published import SUFFIXES, Latent, read_latents
from ganinv.store import Manifest, Plan, RowError, Store
from ganinv.version import code_version

UNIT = 500
"""Latents of one part."""


def bring_latents(
    files: Sequence[str], store: Store, name: str, generator: Generator, ids: str | None = None
) -> Manifest:
    """Write ``latents/<name>``. If run again with the same files, writes only what is missing.

    Args:
        files: paths or URLs; of a folder, every file with a suffix of ``SUFFIXES``.
        generator: the generator of the latents; no file names it.
        ids: the names of the images, for files that hold many latents without names: a text file with one per line, or a data
            set, whose ids are used in order, as pSp and e4e traverse a folder.

    Raises:
        WeightsRefused, DataError: see :func:`~ganinv.records.published.read_latents`.
        RunConflict: other latents have this name.
    """
    names = None if ids is None else _names(ids)
    found = read_latents(_listed(files), generator.num_ws, generator.w_dim, names)
    if not found:
        raise DataError(f"no latents in {', '.join(files)}: expected files that end in {', '.join(SUFFIXES)}")
    config = {"files": sorted({one.sha256 for one in found}), "generator": generator.fingerprint}
    origin: Mapping[str, Any] = {
        "code_version": code_version(),
        "generator_name": generator.name,
        "generator_fingerprint": generator.fingerprint,
        "method": "imported",
    }
    collection = store.latents[name]
    plan = collection.start(Plan.of("import-latents", config, origin, (one.image_id for one in found), UNIT))
    by_id, done = {one.image_id: one for one in found}, collection.done()
    for unit in plan.units:
        if unit.index not in done:
            members = [by_id[image_id] for image_id in unit.ids]
            good = [one for one in members if np.isfinite(one.w).all()]
            bad = [
                RowError(one.image_id, "not_finite", f"{one.file}: the latent holds NaN or infinity")
                for one in members
                if not np.isfinite(one.w).all()
            ]
            w = (
                np.stack([np.broadcast_to(one.w, (generator.num_ws, generator.w_dim)) for one in good])
                if good
                else None
            )
            empty = torch.empty(0, generator.num_ws, generator.w_dim)
            latents = empty if w is None else torch.from_numpy(w.copy())
            table = records_to_table(latents, [None] * len(good), [one.image_id for one in good], collection)
            for column, values in _columns(good).items():
                table = table.append_column(column, values)
            collection.write_part(unit.index, table, bad, {})
    return collection.manifest() or collection.finish(plan)


def _columns(latents: Sequence[Latent]) -> dict[str, pa.Array]:
    """The other columns of an inversion; nothing of these was measured."""
    count = len(latents)
    nothing = {
        **dict.fromkeys(("stored_mse", "stored_distance", "mse", "distance"), pa.float32()),
        "stored_form": pa.string(),
        "source_sha256": pa.string(),
        "steps": pa.int32(),
    }
    return {
        "source_uri": pa.array([one.file for one in latents], pa.string()),
        "latents_sha256": pa.array([one.sha256 for one in latents], pa.string()),
        "space": pa.array(["w" if len(one.w) == 1 else "w+" for one in latents], pa.string()),
        "stop_reason": pa.array(["imported"] * count, pa.string()),
        **{column: pa.nulls(count, kind) for column, kind in nothing.items()},
    }


def _listed(files: Sequence[str]) -> list[str]:
    """Files, and the contents of folders, sorted: the order that other programs use."""
    out: list[str] = []
    for url in files:
        fs, path = fsspec.url_to_fs(url)
        if fs.isdir(path):
            inside = sorted(str(each) for each in fs.find(path) if str(each).endswith(SUFFIXES))
            out += [fs.unstrip_protocol(each).removeprefix("file://") for each in inside]
        else:
            out.append(url)
    return out


def _names(place: str) -> list[str]:
    fs, path = fsspec.url_to_fs(place)
    if place.endswith((".txt", ".csv")) and fs.isfile(path):
        return [line.strip() for line in fs.cat_file(path).decode().split("\n") if line.strip()]
    return open_dataset(place).ids
