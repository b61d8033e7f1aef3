"""From the words of the command line to a studio."""

from __future__ import annotations

from collections.abc import Mapping

from flows.studio.desk import Studio
from flows.studio.saving import Saver
from flows.studio.shelf import Shelf
from flows.studio.upload import Inverting
from ganinv.errors import StoreError
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.store import open_store
from tasks.engine import default_device


def open_studio(
    store: str,
    generator: str = EMBEDDED,
    encoders: Mapping[str, str] | None = None,
    needed: Mapping[str, str] | None = None,
) -> Studio:
    """A studio on a store. One without inversions will do: photos can be brought, and edited along what directions there are.

    Raises:
        StoreError: the store cannot be read, or there is nothing at its place.
    """
    root = open_store(store)
    shelf = Shelf(root, open_generator(generator, default_device()), encoders, needed)
    if not root.objects.names(""):
        raise StoreError(f"there is nothing in the store {root.url}: make one with ganinv demo, or check the place")
    return Studio(shelf, Inverting(shelf, encoders), Saver(shelf, generator, encoders))
