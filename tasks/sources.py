"""The images that stored inversions are of, read again."""

from __future__ import annotations

from ganinv.data.index import SourceIndex
from ganinv.data.source import Place
from ganinv.store import Collection, Store
from tasks.records import Sources
from tasks.steps.invert import DatasetRef


def sources_of(latents: Collection, store: Store) -> Sources:
    """Of inversions: from the index that their run wrote, or the run of those that they were compressed from. The data set is
    listed anew where there is none, which an older version made."""
    reference = DatasetRef.model_validate(latents.plan().config["dataset"])
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
