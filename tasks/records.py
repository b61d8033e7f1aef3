"""Rows of ``latents``: codes measured in the form in which they are stored, and their source images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.data import LoadedBatch
from ganinv.generators.channels import as_channels
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import DistanceName, between, open_distance
from ganinv.metrics.images import mse
from ganinv.records import records_to_table
from ganinv.records.verify import Measured, Record
from ganinv.stages.batches import batches
from ganinv.store import Collection, RowError


class Measurer:
    """Renders codes and compares them with images, as a method measures its own result (``Method.invert``).

    Args:
        lanes: how many are rendered at once; does not affect results.
    """

    def __init__(self, generator: Generator, distance: DistanceName, lanes: int = 1) -> None:
        self.generator, self.lanes = generator, lanes
        self._distance = open_distance(distance, generator)

    @torch.inference_mode()
    def __call__(self, code: Code, images: Tensor, shown: Tensor | None = None) -> list[Measured]:
        """(mean squared error, distance) of each of N codes to its image, of images [N, 3, R, R] in [-1, 1].

        Args:
            shown: [N, 1, R, R] in [0, 1], what of them is to be reproduced; elsewhere renderings take the images' values.
        """
        device, found = self.generator.device, list[Measured]()
        for index, real in batches(len(code), self.lanes):
            image, rendered = images[index].to(device), self.generator.synthesize(code[index].to(device))
            if shown is not None:
                rendered = image + shown[index].to(device) * (rendered - image)
            far = between(self._distance.features(rendered), self._distance.features(image))
            found += list(zip(mse(rendered, image)[:real].tolist(), far[:real].tolist(), strict=True))
        return found


def records_table(
    ids: Sequence[str], records: Sequence[Record], collection: Collection, generator: Generator
) -> pa.Table:
    """image_id, w, extras_*, stored_mse, stored_distance, stored_form; the extras are written to the collection."""
    latents = [record.w for record in records]
    w = torch.stack(latents) if latents else torch.empty(0, generator.num_ws, generator.w_dim)
    table = records_to_table(w, [record.extras for record in records], ids, collection)
    columns: dict[str, Any] = {
        "stored_mse": pa.array([record.mse for record in records], pa.float32()),
        "stored_distance": pa.array([record.distance for record in records], pa.float32()),
        "stored_form": pa.array([record.form for record in records], pa.string()),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


class Sources(Protocol):
    """Images by id."""

    def load(self, ids: Sequence[str], resolution: int) -> LoadedBatch: ...


def load_sources(
    sources: Sources, latents: Collection, ids: Sequence[str], generator: Generator, side: int | None = None
) -> tuple[Tensor, pa.Table, list[RowError]]:
    """The images of stored inversions, read again.

    Args:
        side: in place of the generator's resolution.

    Returns:
        Images [B, C, R, R] in [-1, 1], as the generator makes them, their B rows of ``latents`` in the same order, and an
        error for each image that cannot be read or is not the one that was inverted.
    """
    loaded = sources.load(ids, side or generator.resolution)
    table = latents.read(ids=loaded.ids)
    places = {image_id: row for row, image_id in enumerate(table["image_id"].to_pylist())}
    recorded = table["source_sha256"].to_pylist()
    same = [recorded[places[i]] == sha for i, sha in zip(loaded.ids, loaded.sha256, strict=True)]
    changed = [i for i, is_same in zip(loaded.ids, same, strict=True) if not is_same]
    errors = [RowError(i, "source_changed", "the source is not the image that was inverted") for i in changed]
    rows = [places[i] for i in loaded.ids if i not in changed]
    return (
        as_channels(loaded.images[torch.tensor(same, dtype=torch.bool)], generator.img_channels),
        table.take(pa.array(rows, pa.int64())),
        [*loaded.errors, *errors],
    )
