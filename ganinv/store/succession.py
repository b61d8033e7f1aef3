"""Collections that are made of others: rows that were replaced in one are made again in the next.

Beside a collection, ``changes-0001.json``, ``changes-0002.json``, ... hold the ids of images whose rows were replaced or went,
each created exclusively. ``_seen.json`` of a collection that is made of it says how many of these it has followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ganinv.store.collection import Collection

_SEEN = "_seen.json"


def log_changes(collection: Collection, ids: Iterable[str]) -> None:
    """Note that the rows of some images are others now."""
    text = json.dumps({"ids": sorted(ids)}, ensure_ascii=False).encode()
    number = 1
    while True:
        try:
            collection.objects.create(f"{collection.path}/{_name(number)}", text)
        except FileExistsError:
            number += 1
        else:
            return


@dataclass(frozen=True)
class News:
    """What became of the rows that a collection is made of, since it was made.

    Args:
        ids: images whose rows there are others now, or went.
        seen: path of a collection -> how many of its changes this is.
    """

    ids: frozenset[str]
    seen: dict[str, int]

    @classmethod
    def of(cls, collection: Collection, made_of: Sequence[Collection]) -> News:
        """Two requests for each collection that it is made of, where nothing changed."""
        written = collection.objects.read_if_there(f"{collection.path}/{_SEEN}")
        seen: dict[str, int] = json.loads(written) if written else {}
        ids = set[str]()
        for source in made_of:
            number = seen.get(source.path, 0)
            while (data := source.objects.read_if_there(f"{source.path}/{_name(number + 1)}")) is not None:
                ids.update(json.loads(data)["ids"])
                number += 1
            seen[source.path] = number
        return cls(frozenset(ids), seen)

    def follow(self, collection: Collection, there: Iterable[str]) -> list[str]:
        """Let go of images that have no row any more in what the collection is made of; the ids of those to make again.

        Args:
            there: images that have rows.
        """
        again = self.ids.intersection(there)
        if self.ids - again:
            collection.amend(let_go=self.ids - again)
        return sorted(again)

    def followed(self, collection: Collection) -> None:
        """Say so, when all is made again; and tell those that are made of this collection."""
        if self.ids:
            log_changes(collection, self.ids)
            collection.objects.put(f"{collection.path}/{_SEEN}", json.dumps(self.seen, sort_keys=True).encode())


def _name(number: int) -> str:
    return f"changes-{number:04d}.json"
