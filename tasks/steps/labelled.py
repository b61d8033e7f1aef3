"""Labelled samples of a store, as fits read them: some columns of some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ganinv.directions.fitting.samples import Block, LatentSpace
from ganinv.errors import ConfigError, did_you_mean
from ganinv.generators.sampling import sample_index, sample_z
from ganinv.store import Collection, tensor_numpy


class StoredSamples:
    """Latents of one collection and scores of the same or another one, joined by id.

    Args:
        latents: ``samples/<name>``, or ``latents/<name>`` for codes in W+.
        scores: where the columns ``score_<attribute>`` (or ``score_<attribute>_source``) are; every id of it must be an
            id of ``latents``. None reads them from ``latents``.
        space: ``z`` draws each sample's z again from its seed; ``w+`` reads rows [num_ws, w_dim], flat.
        z_dim: of the generator, for ``z``.
    """

    def __init__(
        self, latents: Collection, scores: Collection | None = None, space: LatentSpace = "w", z_dim: int = 0
    ) -> None:
        self.latents, self.space, self.z_dim = latents, space, z_dim
        self.scores = scores or latents
        columns = self.scores.read(ids=[]).schema.names
        self.columns: Mapping[str, str] = {
            _attribute(column): column for column in columns if column.startswith("score_")
        }
        shape = self.latents.read(["w"], ids=[])["w"].type.shape
        self.rows: int | None = int(shape[0]) if len(shape) == 2 else None
        if space == "w+" and self.rows is None:
            raise ConfigError(
                f"{latents.url} holds one w for all rows; directions in W+ are fitted on inverted images: source: latents"
            )
        if space == "w" and self.rows is not None:
            raise ConfigError(f"{latents.url} holds codes in W+, one w per row: take the space w+ (--space w+)")
        if space == "z" and "seed" not in latents.plan().config:
            raise ConfigError(f"{latents.url} holds no samples that were drawn by seed, so they have no z")

    @property
    def attributes(self) -> list[str]:
        """Whose scores there are."""
        return list(self.columns)

    def blocks(self, attribute: str, *, latents: bool) -> Iterator[Block]:
        """Samples with their scores, NaN if there is none, in the order of their ids."""
        if attribute not in self.columns:
            raise ConfigError(
                f"{self.scores.url} has no score of {attribute!r}{did_you_mean(attribute, self.attributes)}; "
                f"there are: {', '.join(self.attributes)}"
            )
        column = self.columns[attribute]
        together = latents and self.scores is self.latents and self.space != "z"
        for batch in self.scores.scan(["image_id", column, *(["w"] if together else [])], batch_size=4096):
            names = batch["image_id"].to_pylist()
            scores = batch[column].to_numpy(zero_copy_only=False).astype(np.float64)
            x = np.empty((len(names), 0), dtype=np.float32)
            if together:
                x = tensor_numpy(batch["w"])
            elif latents:
                x = self.of_ids(names)
            yield Block(np.array(names), scores, x.reshape(len(names), -1))

    def of_ids(self, names: list[str]) -> np.ndarray:
        """Latents of some samples, in the order of ``names``: [n, D], or [n, num_ws, w_dim] of codes in W+."""
        if self.space == "z":
            seed = int(self.latents.plan().config["seed"])
            return sample_z(seed, [sample_index(name) for name in names], self.z_dim).numpy()
        table = self.latents.read(["image_id", "w"], ids=names)
        place = {name: row for row, name in enumerate(table["image_id"].to_pylist())}
        missing = [name for name in names if name not in place]
        if missing:
            raise ConfigError(f"{self.latents.url} has no row of {len(missing)} scored ids, such as {missing[0]!r}")
        return tensor_numpy(table["w"])[[place[name] for name in names]]


def _attribute(column: str) -> str:
    return column.removeprefix("score_").removesuffix("_source")
