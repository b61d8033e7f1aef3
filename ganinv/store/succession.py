"""Collections derived from others: if rows are replaced in one, the rows derived from them are computed again.

Beside a collection, ``changes-0001.json``, ``changes-0002.json``, ... list images whose rows were replaced or removed, each
created exclusively. ``_seen.json`` of a derived collection says how many of these it has followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ganinv.store.collection import Collection

_SEEN = "_seen.json"


def log_changes(collection: Collection, ids: Iterable[str]) -> None:
    """Record that the rows of some images have changed."""
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
    """Changes in the source rows of a derived collection since it was computed.

    Args:
        ids: images whose source rows have changed or were removed.
        seen: path of a source collection -> how many of its changes are included.
    """

    ids: frozenset[str]
    seen: dict[str, int]

    @classmethod
    def of(cls, collection: Collection, made_of: Sequence[Collection]) -> News:
        """Read them; two requests per source collection if nothing has changed."""
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
        """Remove images that no longer have a source row. Returns the ids of those to compute again.

        Args:
            there: images that have rows.
        """
        again = self.ids.intersection(there)
        if self.ids - again:
            collection.amend(let_go=self.ids - again)
        return sorted(again)

    def followed(self, collection: Collection) -> None:
        """Record that all changes have been followed, and pass them on to collections derived from this one."""
        if self.ids:
            log_changes(collection, self.ids)
            collection.objects.put(f"{collection.path}/{_SEEN}", json.dumps(self.seen, sort_keys=True).encode())


def _name(number: int) -> str:
    return f"changes-{number:04d}.json"
