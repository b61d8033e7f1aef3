"""Compare a data set with that of an earlier run: images are the same, changed, moved or gone, never judged by name alone.

For most images the listing shows that they are unchanged, by the version of their file (ETag, or size and times). The others
are read, and the sha256 of their content is compared with that of the stored row.

- New content in the same place is *changed*: it is computed again under its id.
- The content of a disappeared image in a new place is *moved*: it keeps its id and its row.
- Rows of Parquet without an id column are identified only by their number. For them content counts before place: rows that
  were reordered, or pushed back by new ones, keep their ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ganinv.data.discover import Found
from ganinv.data.identity import BETWEEN, by_number, earlier_ids, file_key, identified, names_of, with_key
from ganinv.data.source import Place, SourceRef

Hashes = Callable[[Mapping[str, SourceRef]], Mapping[str, str | None]]
"""Name -> sha256 of what is there now; None if it cannot be read."""


PENDING, REFUSED = "pending ", "refused "
"""Before a version in an index: the row of another content is still there; or it was made an error row, and is to be computed
when a run asks for that."""


@dataclass(frozen=True)
class Changes:
    """Ids of planned images.

    Args:
        changed: images whose content differs from that of their row.
        moved: images whose content is now in another place.
        replaced: images that disappeared, and whose content is now that of a changed one.
        mended: shards that could not be read before, and now can.
        computed: images that an earlier run found changed, and whose rows are up to date by now.
        read: how many images were read to find this out.
    """

    changed: frozenset[str] = frozenset()
    moved: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    mended: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()
    read: int = 0

    def line(self) -> str:
        """One line for people; empty if there is nothing to say."""
        parts = [f"{len(self.changed)} images changed"] if self.changed else []
        parts += [f"{len(self.moved)} moved"] if self.moved else []
        parts += [f"{len(self.mended)} shards are whole now"] if self.mended else []
        return f"since the last run: {', '.join(parts)} ({self.read} were read to know)" if parts else ""


class Known(Protocol):
    """The records of an earlier run."""

    def planned(self) -> Sequence[str]:
        """All ids of its plan."""
        ...

    def sources(self) -> Mapping[str, SourceRef]:
        """id -> where it was, as the index of sources has it."""
        ...

    def sha256(self, ids: Iterable[str]) -> Mapping[str, str]:
        """id -> sha256 that its row is of, for those of ``ids`` that have a row."""
        ...

    def uris(self, ids: Iterable[str]) -> Mapping[str, str]:
        """id -> where its row says that its image is, for those of ``ids`` that have a row."""
        ...


def reconciled(place: Place, found: Found, known: Known, hashes: Hashes) -> tuple[dict[str, SourceRef], Changes]:
    """id -> source of every image that was found, with the ids of the earlier run, and what changed since."""
    planned, noted = known.planned(), known.sources()
    images = _sorted_out(place, found, known)
    gone = _gone(place, found, images, noted) if images.new or images.suspect else []
    rows = known.sha256([*images.suspect, *gone])  # of an image that has no row there is nothing to compare
    matched = _match(images, {i: rows[i] for i in gone if i in rows}, noted, rows, hashes)
    matched.moved |= {
        image_id
        for image_id, source in matched.kept.items()
        if image_id in noted and noted[image_id].uri != source.uri and image_id not in matched.changed
    }
    matched.kept |= identified(matched.new, taken={*planned, *noted, *matched.kept})
    shards = {source.key.partition(BETWEEN)[0] for source in found.sources if BETWEEN in source.key}
    mended = frozenset(i for i, s in noted.items() if s.fault is not None and i not in matched.kept and s.key in shards)
    return matched.kept, Changes(
        changed=frozenset(matched.changed),
        moved=frozenset(matched.moved),
        replaced=frozenset(matched.replaced),
        mended=mended,
        computed=frozenset(matched.computed),
        read=matched.read,
    )


@dataclass
class _Images:
    """The sources that were found: of images that are what they were, of those that may have changed, and others."""

    same: dict[str, SourceRef] = field(default_factory=dict)
    suspect: dict[str, SourceRef] = field(default_factory=dict)
    new: list[SourceRef] = field(default_factory=list)


@dataclass
class _Matched:
    """``kept`` has the sources of all that have an id, ``new`` the others."""

    kept: dict[str, SourceRef]
    new: list[SourceRef] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    computed: set[str] = field(default_factory=set)
    read: int = 0


def _match(
    images: _Images,
    gone: Mapping[str, str],
    noted: Mapping[str, SourceRef],
    rows: Mapping[str, str],
    hashes: Hashes,
) -> _Matched:
    """Tell by their content what became of those that may have changed (``rows`` has the sha256 of theirs) and of those that are
    gone (id -> sha256)."""
    suspects = {image_id: source for image_id, source in images.suspect.items() if image_id in rows}
    now: dict[str, str | None] = dict(hashes({source.key: source for source in suspects.values()}))
    result = _Matched(dict(images.same))
    for image_id, source in images.suspect.items():
        if image_id not in rows:
            result.kept[image_id] = source
            result.changed |= {image_id} if (noted[image_id].version or "").startswith(REFUSED) else set()
    free: dict[str, list[str]] = defaultdict(list)  # contents whose places are not theirs any more
    for image_id in sorted(gone):
        free[gone[image_id]].append(image_id)
    others: dict[str, SourceRef] = {}
    for image_id, source in suspects.items():
        digest = now[source.key]
        if digest is None:  # it is asked again the next time
            result.kept[image_id] = replace(source, version=noted[image_id].version)
        elif digest == rows[image_id]:
            result.kept[image_id] = source
            result.computed |= {image_id} if (noted[image_id].version or "").startswith(PENDING) else set()
        else:
            others[image_id] = source
            if by_number(source):
                free[rows[image_id]].append(image_id)
    lengths = {noted[image_id].length for some in free.values() for image_id in some}
    movers = [s for s in images.new if lengths and s.fault is None and _may_have(s.length, lengths)]
    now |= hashes({source.key: source for source in movers})
    result.read = len(now)

    takers = [*(s for s in others.values() if by_number(s)), *movers]
    taken: set[str] = set()
    for source in takers:
        places = free.get(now[source.key] or "")
        if places:
            result.kept[places[0]] = source
            result.moved.add(places.pop(0))
            taken.add(source.key)
    result.new = [source for source in images.new if source.key not in taken]
    for image_id, source in others.items():
        if source.key in taken:
            continue
        if image_id in result.moved:  # its number is that of another row now
            result.new.append(source)
            continue
        result.kept[image_id] = source
        result.changed.add(image_id)
        old = free.get(now[source.key] or "", [])
        result.replaced |= {old.pop(0)} if old and old[0] in gone else set()
    return result


def _sorted_out(place: Place, found: Found, run: Known) -> _Images:
    """Which of the sources are known, by their keys; and of which the version tells that they are what they were."""
    planned, noted = run.planned(), run.sources()
    by_key: dict[str, str] = {}
    for image_id, source in noted.items():
        keys = (source.key,) if source.key else with_key(source, image_id, place, found.base)
        for key in keys:
            by_key[key] = image_id
    unnoted = {image_id for image_id in planned if image_id not in noted}
    if unnoted:  # the run was killed before it wrote an index, or was of the first versions, which wrote none
        there = {uri: image_id for image_id, uri in run.uris(unnoted).items()}
        by_key |= {source.key: there[source.uri] for source in found.sources if source.uri in there}
        unnoted.difference_update(there.values())
        by_key |= _by_name(found.sources, unnoted, by_key)
    placed = {by_key[source.key] for source in found.sources if source.key in by_key}
    images = _Images()
    for source in found.sources:
        known = by_key.get(source.key) or _by_id_column(source, noted, placed)
        if known is None or known in images.same or known in images.suspect:
            images.new.append(source)
        elif known not in noted or _is_same(noted[known], source):
            images.same[known] = source
        else:
            images.suspect[known] = source
    return images


def _by_id_column(source: SourceRef, noted: Mapping[str, SourceRef], placed: set[str]) -> str | None:
    """The planned image with this row's id, when it has gone to another file of the data set."""
    if source.row is None or by_number(source):
        return None
    name = names_of(source)[0]
    there = name in noted and noted[name].row is not None and not by_number(noted[name])
    return name if there and name not in placed else None


def _by_name(sources: Sequence[SourceRef], planned: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """key -> id, of planned images of which nothing is known but their ids."""
    left, earlier, found = set(planned), earlier_ids(sources), dict[str, str]()
    for source in sources:
        names = () if source.key in known else (earlier[source.key], *names_of(source))
        name = next((name for name in names if name in left), None)
        if name is not None:
            left.remove(name)
            found[source.key] = name
    return found


def _gone(place: Place, found: Found, images: _Images, noted: Mapping[str, SourceRef]) -> list[str]:
    """The images that are in no place any more. A row or member that is not among those asked for, of a shard that is what it
    was, is not gone."""
    here = {*images.same, *images.suspect}
    gone = []
    for image_id, source in noted.items():
        if image_id in here or source.fault is not None:
            continue
        shard = source.key.partition(BETWEEN)[0] if source.key else file_key(source.path, found.base)
        if shard not in found.shards or (found.shards[shard] != source.version and source.version is not None):
            gone.append(image_id)
    return gone


def _is_same(noted: SourceRef, now: SourceRef) -> bool:
    """By the version of the file; where an older index has none, by the length."""
    if noted.version is not None and now.version is not None:
        return noted.version == now.version
    return noted.length == now.length


def _may_have(length: int | None, lengths: set[int | None]) -> bool:
    return length is None or length in lengths or None in lengths
