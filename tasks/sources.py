"""The images that a step reads, and access to the source images of stored inversions."""

from __future__ import annotations

from ganinv.data.index import SourceIndex
from ganinv.data.source import Place
from ganinv.errors import ConfigError
from ganinv.store import Collection, Store
from tasks.jobs.dataset import DatasetRef
from tasks.noted import Noted
from tasks.records import Sources

__all__ = ["DatasetRef", "sources_of"]


def sources_of(latents: Collection, store: Store) -> Sources:
    """The source images of inversions: from the index of their run, or of the run that they were compressed from. Without an
    index, as in collections of older versions, the data set is listed again.

    Raises:
        ConfigError: imported latents, whose images are unknown.
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
    return reference.model_copy(update={"limit": None}).open(Noted(latents))
