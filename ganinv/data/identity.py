"""The identity of an image: its id is derived from its place in the data set, and once planned never changes.

A *key* is the place: the path within the data set, and for shards the member or row in it. An id is made from the key alone:

    photos/anna.jpg                     photos/anna       (``photos/anna.jpg`` where ``photos/anna`` is another's)
    train/00000.tar, member 17.jpg      train/00000/17
    train-00000.parquet, row 12         train-00000/00000012
    train-00000.parquet, image_id p     p                 (``train-00000/p`` where another file has a ``p`` too)
    train/00003.tar, cut                train/00003.tar   (of the shard itself)

If two new images would have the same id, both get longer names; if an existing image has it, only the new one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from functools import lru_cache
from pathlib import PurePosixPath

from ganinv.data.kinds import is_image, suffix_of
from ganinv.data.names import clean_id, from_text, to_text
from ganinv.data.source import Place, SourceRef

BETWEEN = "\x1f"
"""Between a shard and what is in it. No name has it."""


def file_key(path: str, base: str) -> str:
    """Of a file, relative to the data set's folder ``base``; also of a shard."""
    return to_text(path.removeprefix(base).lstrip("/"))


def member_key(shard: str, member: str) -> str:
    """Of a tar's member."""
    return f"{shard}{BETWEEN}{to_text(member)}"


def row_key(shard: str, row: int, value: str | None = None) -> str:
    """Of a Parquet row: its number, or what its id column has."""
    return f"{shard}{BETWEEN}{row}" if value is None else f"{shard}{BETWEEN}={to_text(value)}"


def by_number(source: SourceRef) -> bool:
    """Whether a row has nothing to be known by but its number."""
    return source.row is not None and source.key.rpartition(BETWEEN)[2].isdigit()


def names_of(source: SourceRef) -> tuple[str, str]:
    """(the id that its place gives it, the longer one where that is another's)."""
    shard, inside, within = source.key.partition(BETWEEN)
    if not inside:
        name = clean_id(from_text(shard))
        return (name, name) if source.fault is not None else (_stem(name), name)
    stem = _shard_stem(shard)
    if source.row is None:
        member = clean_id(from_text(within).removeprefix("./"))
        return f"{stem}/{_stem(member)}", f"{stem}/{member}"
    if not within.startswith("="):
        return (f"{stem}/{int(within):08d}",) * 2
    value = within[1:]
    if not (value.isascii() and value.isprintable()):
        value = clean_id(from_text(value))
    return value, f"{stem}/{value}"


def identified(sources: Iterable[SourceRef], taken: Set[str] = frozenset()) -> dict[str, SourceRef]:
    """id -> source. ``taken``: ids that no image gets."""
    found: dict[str, SourceRef] = {}
    named = [(*names_of(source), source) for source in sources]
    count = Counter(short for short, _, _ in named)
    for short, full, source in named:
        name = short if count[short] == 1 else full
        if name in found or name in taken:
            name = full
        number = 1
        while name in found or name in taken:
            number += 1
            name = f"{full}~{number}"
        found[name] = source
    return found


def with_key(source: SourceRef, image_id: str, place: Place, base: str) -> Sequence[str]:
    """The keys that an image of an older version's index may have today: it noted paths, but no keys."""
    shard = file_key(source.path, base)
    inside = source.uri.removeprefix(place.uri(source.path)).removeprefix("#")
    if source.row is not None:
        return row_key(shard, source.row), row_key(shard, source.row, image_id)
    return (shard,) if source.offset is None else (member_key(shard, inside),)


def earlier_ids(sources: Sequence[SourceRef]) -> dict[str, str]:
    """key -> the id that versions without an index of sources gave, of shards without an id column: what is in them had the
    name of its shard before its own only where it was not alone."""
    shards = len({source.path for source in sources if source.row is not None})
    inner = {s.key: names_of(s)[0].removeprefix(_shard(s) + "/") for s in sources if BETWEEN in s.key and s.row is None}
    count = Counter(inner.values())
    ids = {}
    for source in sources:
        if by_number(source):
            ids[source.key] = f"{source.row:08d}" if shards == 1 else names_of(source)[0]
        elif source.key in inner:
            name = inner[source.key]
            ids[source.key] = name if count[name] == 1 else f"{PurePosixPath(_shard(source)).name}/{name}"
        else:
            ids[source.key] = names_of(source)[0]
    return ids


def _shard(source: SourceRef) -> str:
    return _shard_stem(source.key.partition(BETWEEN)[0])


@lru_cache(maxsize=4096)
def _shard_stem(shard: str) -> str:
    """The name of a shard without its suffix, as ids have it."""
    return clean_id(str(PurePosixPath(from_text(shard)).with_suffix("")))


def _stem(name: str) -> str:
    """Without the suffix of an image; other suffixes are part of a name."""
    return name[: -len(suffix_of(name))] if is_image(name) else name
