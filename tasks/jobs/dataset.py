"""``DatasetRef``: which images a job is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from ganinv.config import StrictModel

if TYPE_CHECKING:
    from ganinv.data import Dataset
    from ganinv.data.changes import Known


def placed(url: str) -> str:
    """A URL as plans hold it: ``photos``, ``./photos/`` and ``file:///home/anna/photos`` are one place, whatever folder a
    command is called in. URLs of other file systems stay as they are."""
    from fsspec.implementations.local import LocalFileSystem

    if not url.strip():
        raise ValueError("expected a folder, a glob, an image, a tar or a Parquet file, got an empty text")
    scheme, there, _ = url.partition("://")
    if "::" in url or (there and scheme not in ("file", "local")):
        return url
    return str(LocalFileSystem._strip_protocol(url)) or "/"


PlaceUrl = Annotated[str, AfterValidator(placed)]


class DatasetRef(StrictModel):
    """Which images: a folder, a glob, tar shards or Parquet with an image column, at any fsspec URL.

    Args:
        url: folder, glob, tar shards or Parquet; any fsspec URL.
        image_column: column of a Parquet data set with the images; by default found by its type.
        id_column: column of a Parquet data set with unique ids; by default face_id, image_id or id; none numbers the rows.
        where: select rows of a Parquet data set, such as split=test.
        limit: use only this many images, the first by id.
    """

    url: PlaceUrl
    image_column: str | None = None
    id_column: str | None = None
    where: Mapping[str, str] = Field(default_factory=dict)
    limit: int | None = Field(None, ge=1)

    def open(self, known: Known | None = None) -> Dataset:
        """List it. ``known``: what an earlier run noted, so that its images keep their ids."""
        from ganinv.data import open_dataset

        return open_dataset(
            self.url,
            image_column=self.image_column,
            id_column=self.id_column,
            where=dict(self.where) or None,
            limit=self.limit,
            known=known,
        )
