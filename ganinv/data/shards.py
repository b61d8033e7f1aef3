"""Files that hold many images, by their suffix. A new kind is one file in this package, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ganinv.registry import Registry

if TYPE_CHECKING:
    from ganinv.data.left_out import LeftOut
    from ganinv.data.source import Place, SourceRef
    from ganinv.data.walk import Listed

Lister = Callable[
    ["Place", Mapping[str, "Listed"], Sequence[str], str, "LeftOut"],
    "Iterable[SourceRef]",
]
"""(place, every file of the listing by path, the shards among them, the folder that keys are relative to, what is left out) ->
one source with a byte range for each image, and one with a ``fault`` for each shard that cannot be read to its end."""

SHARDS: Registry[Lister] = Registry(
    "kind of shard",
    {
        ".tar": "ganinv.data.tar:tar_sources",
    },
)
