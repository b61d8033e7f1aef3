"""Find out which kind of data set is at a URL, and list its images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fsspec.utils import glob_translate

from ganinv.data.folder import file_sources, images_by_content
from ganinv.data.identity import file_key
from ganinv.data.kinds import IMAGE_SUFFIXES, is_archive, is_image, says_nothing, suffix_of
from ganinv.data.left_out import LeftOut
from ganinv.data.listing import Packed
from ganinv.data.names import clean_id
from ganinv.data.shards import SHARDS
from ganinv.data.source import MAGIC, Place, reading
from ganinv.data.table import Wanted, table_sources, without_images
from ganinv.data.walk import Listed, files_below, listed_file
from ganinv.errors import DataError
from ganinv.store.retrying import with_retries

_TABLES, _NO_IMAGE = (".parquet", ".pq"), "no images by their names or first bytes"


@dataclass(frozen=True)
class Found:
    """A listing: one source for each image, the folder that their keys are relative to, what is not an image, and the versions of
    the shards by their keys."""

    sources: Packed
    base: str
    left: LeftOut = field(default_factory=LeftOut)
    shards: Mapping[str, str | None] = field(default_factory=dict)


@with_retries
def discover(place: Place, wanted: Wanted) -> Found:
    """Every image at the place; a :class:`DataError` says what was looked for."""
    left = LeftOut()
    files, base = _list(place, left)
    images, tables, shards = _sorted_out(place, files, base, left)
    if tables and (images or shards) and all(without_images(place, path) for path in tables[:4]):
        left.add(".parquet", "tables without images, beside the images", clean_id(tables[0]), len(tables))
        tables = []
    kinds = {"images": images, "Parquet files": tables, **{f"{s[1:]} files": paths for s, paths in shards.items()}}
    present = {name: paths for name, paths in kinds.items() if paths}
    if len(present) > 1:
        counts = ", ".join(f"{len(paths)} {name}" for name, paths in present.items())
        raise DataError(f"{place.url} holds {counts}: say which with a glob, such as {place.url.rstrip('/')}/*.parquet")
    if not present:
        raise DataError(_nothing(place, files, left))
    if (wanted.where or wanted.image_column or wanted.id_column) and not tables:
        raise DataError(
            f"{place.url} holds {next(iter(present))}: --where, --image-column and --id-column need a Parquet table"
        )
    if images:
        return Found(Packed(file_sources(place, files, images, base)), base, left)
    ((kind, holders),) = present.items()
    if tables:
        sources = Packed(table_sources(place, files, tables, base, wanted, left))
    else:
        ((suffix, paths),) = shards.items()
        sources = Packed(SHARDS[suffix](place, files, paths, base, left))
    if not any(source.fault is None for source in sources):
        raise DataError(_no_images(place, sources, kind, len(holders)))
    return Found(sources, base, left, {file_key(path, base): files[path].version for path in holders})


def _sorted_out(
    place: Place, files: Mapping[str, Listed], base: str, left: LeftOut
) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """(images, Parquet files, shards by their suffix); anything else is noted."""
    unknown = [path for path, listed in files.items() if says_nothing(path) and listed.size]
    known = images_by_content(place, unknown)
    images: list[str] = []
    tables: list[str] = []
    shards: dict[str, list[str]] = {}
    for path, listed in files.items():
        suffix = suffix_of(path)
        if suffix in _TABLES:
            tables.append(path)
        elif suffix in SHARDS:
            shards.setdefault(suffix, []).append(path)
        elif is_image(path) or path in known:
            images.append(path)
        elif is_archive(path):
            left.add(suffix, "compressed archives: unpack them, or make plain .tar files of them", clean_id(path))
        elif listed.size or not says_nothing(path):
            left.add(suffix or "without a suffix", _NO_IMAGE, clean_id(path))
        else:
            left.add(suffix or "without a suffix", "they are empty", clean_id(path))
    return images, tables, shards


def _list(place: Place, left: LeftOut) -> tuple[dict[str, Listed], str]:
    """(path -> every visible file, sorted by path; the folder that names are relative to)."""
    with reading(place.url):
        found, base = _local(place, left) if place.is_local else _remote(place, left)
    return _without_side_tables(dict(sorted(found.items()))), base


def _local(place: Place, left: LeftOut) -> tuple[dict[str, Listed], str]:
    root = place.root
    if os.path.isdir(root):
        return files_below(root, None, left)[0], root
    if os.path.lexists(root):
        return {root: listed_file(root)}, root.rpartition("/")[0]
    glob = MAGIC.search(root)
    if not glob:
        raise _absent(place)
    base = root[: glob.start()].rpartition("/")[0]
    if not os.path.isdir(base or "/"):
        return {}, base
    depth = None if "**" in root else root[len(base) :].count("/")
    ignored = LeftOut()  # what the glob does not name
    files, folders = files_below(base or "/", depth, ignored)
    matches = re.compile(glob_translate(root)).match
    for path in folders:
        if matches(path):
            left.add("folders", "a glob takes files: end it with /**", clean_id(path))
    return {path: listed for path, listed in files.items() if matches(path)}, base


def _remote(place: Place, left: LeftOut) -> tuple[dict[str, Listed], str]:
    fs, root = place.fs, place.root
    fs.invalidate_cache()
    literal = fs.exists(root)
    if not literal and MAGIC.search(root):
        found = fs.glob(root, detail=True)
        base = root[: MAGIC.search(root).start()].rpartition("/")[0]  # type: ignore[union-attr]
    elif not literal:
        raise _absent(place)
    else:
        found = fs.find(root, detail=True)
        base = root.rpartition("/")[0] if list(found) == [root] else root
    fs.invalidate_cache()  # a copy of the whole listing, that nobody asks again
    files = {}
    for path, info in found.items():
        if _hidden(path.removeprefix(base)):
            left.add("hidden files", "their names begin with a dot", path)
        elif info["type"] == "file":
            files[path] = Listed(int(info.get("size") or 0), _version(info))
        elif info["type"] == "directory" and not path.endswith("/") and MAGIC.search(root):
            left.add("folders", "a glob takes files: end it with /**", path)
    return files, base


def _version(info: Mapping[str, Any]) -> str | None:
    """What a storage says of a content: its ETag, else size and time."""
    for name in ("ETag", "etag", "md5Hash", "content_md5", "checksum"):
        if info.get(name):
            return str(info[name]).strip('"')
    times = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
    when = next((info[name] for name in times if info.get(name) is not None), None)
    return None if when is None else f"{info.get('size')}-{when}"


def _absent(place: Place) -> DataError:
    return DataError(f"there is nothing at {place.url}: expected a folder, a glob, an image, a tar or a Parquet file")


def _without_side_tables(files: dict[str, Listed]) -> dict[str, Listed]:
    """A collection of the store is a data set as well: its parts are, its other files are not."""
    folders = {path.rpartition("/")[0] for path in files if path.endswith("/plan.json")}
    side = re.compile(
        r"(errors|timings)-\d+\.parquet|_(summary|sources(-\d+)?)\.parquet|_summary\.md|_(manifest|seen)\.json|(plan|changes)(-\d+)?\.json"
    )

    def kept(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        extras = name.endswith(".safetensors") and folder.endswith("/extras") and folder[: -len("/extras")] in folders
        return not extras and not (folder in folders and side.fullmatch(name))

    return {path: listed for path, listed in files.items() if kept(path)} if folders else files


def _nothing(place: Place, files: Mapping[str, Listed], left: LeftOut) -> str:
    packed = [path for path in files if is_archive(path)]
    if packed:
        return (
            f"{place.url} holds compressed archives, such as {packed[0]}: unpack them, or make plain .tar files of them"
        )
    looked_for = f"images ({', '.join(IMAGE_SUFFIXES[:15])}, ... or without a suffix), *.tar or *.parquet"
    among = f"found {len(files)} files of other kinds" if files else "found no file at all"
    told = f"; {left.line()}" if left else ""
    return f"no image at {place.url}: looked for {looked_for}; {among}{told}"


def _no_images(place: Place, sources: Packed, kind: str, count: int) -> str:
    if sources:
        more = f"; and {len(sources) - 1} more" if len(sources) > 1 else ""
        return f"no image can be read at {place.url}: {sources[0].uri}: {sources[0].fault}{more}"
    lack = "have no row" if kind == "Parquet files" else "hold no image"
    return f"the {count} {kind} {lack}: {place.url}"


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))
