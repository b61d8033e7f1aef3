"""Which images a step reads, and those that stored inversions are of, read again."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ganinv.config import StrictModel
from ganinv.data import Dataset, open_dataset
from ganinv.data.index import SourceIndex
from ganinv.data.source import Place
from ganinv.errors import ConfigError
from ganinv.store import Collection, Store
from tasks.records import Sources


class DatasetRef(StrictModel):
    """Which images: a folder, a glob, tar shards or Parquet with an image column, at any fsspec URL."""

    url: str
    image_column: str | None = None
    where: Mapping[str, str] = Field(default_factory=dict)
    limit: int | None = Field(None, ge=1)

    def open(self) -> Dataset:
        return open_dataset(self.url, image_column=self.image_column, where=dict(self.where) or None, limit=self.limit)


def sources_of(latents: Collection, store: Store) -> Sources:
    """Of inversions: from the index that their run wrote, or the run of those that they were compressed from. The data set is
    listed anew where there is none, which an older version made.

    Raises:
        ConfigError: imported latents, of images that nobody named.
    """
    config = latents.plan().config
    if "dataset" not in config:
        raise ConfigError(
            f"latents {latents.name!r} do not say which images they are of (they were imported), so they cannot be compared with "
            "them: invert the images here (ganinv invert), or edit and render these as they are"
        )
    reference = DatasetRef.model_validate(config["dataset"])
    while latents.exists():
        index = SourceIndex(Place(reference.url), latents.objects, latents.path)
        if index:
            return index
        origin = latents.plan().config.get("latents")
        if origin is None:
            break
        latents = store.latents[origin]
    # The limit of the run says which images it took, and its plan has them already.
    return reference.model_copy(update={"limit": None}).open()
