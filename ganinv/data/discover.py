"""What kind of data set is at a URL, and its images."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ganinv.data.folder import IMAGE_SUFFIXES, file_sources, is_image
from ganinv.data.source import MAGIC, Place, SourceRef, reading
from ganinv.data.table import table_sources
from ganinv.data.tar import tar_sources
from ganinv.errors import DataError
from ganinv.store.retrying import with_retries

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


@with_retries
def discover(place: Place, image_column: str | None, where: Mapping[str, str]) -> dict[str, SourceRef]:
    """id -> source of every image at the place; a :class:`DataError` says what was looked for."""
    files, base = _list(place)
    images = [path for path in files if is_image(path)]
    tables = [path for path in files if path.lower().endswith((".parquet", ".pq"))]
    tars = [path for path in files if path.lower().endswith(".tar")]
    kinds = {"images": images, "Parquet files": tables, "tar files": tars}
    present = {name: paths for name, paths in kinds.items() if paths}
    if len(present) > 1:
        counts = ", ".join(f"{len(paths)} {name}" for name, paths in present.items())
        raise DataError(f"{place.url} holds {counts}: say which with a glob, such as {place.url.rstrip('/')}/*.parquet")
    if not present:
        raise DataError(_nothing(place, files))
    if (where or image_column) and not tables:
        raise DataError(f"{place.url} holds {next(iter(present))}: where= and image_column= need a Parquet table")
    if images:
        return file_sources(place, files, base)
    sources = tar_sources(place, tars) if tars else table_sources(place, tables, base, image_column, where)
    if not sources:
        what = "tar files hold no image" if tars else "Parquet files have no row"
        raise DataError(f"the {len(tars or tables)} {what}: {place.url}")
    return sources


def _list(place: Place) -> tuple[dict[str, int], str]:
    """(path -> size of every visible file, sorted; the folder that names are relative to)."""
    fs, root = place.fs, place.root
    with reading(place.url):
        fs.invalidate_cache()
        literal = fs.exists(root)
        if not literal and MAGIC.search(root):
            found = fs.glob(root, detail=True)
            base = root[: MAGIC.search(root).start()].rpartition("/")[0]  # type: ignore[union-attr]
        elif not literal:
            raise DataError(
                f"there is nothing at {place.url}: expected a folder, a glob, an image, a tar or a Parquet file"
            )
        else:
            found = fs.find(root, detail=True)
            base = root.rpartition("/")[0] if list(found) == [root] else root
        fs.invalidate_cache()  # a copy of the whole listing, that nobody asks again
    files = {path: _size(info) for path, info in sorted(found.items()) if _is_file(path, info)}
    visible = {path: size for path, size in files.items() if not _hidden(path.removeprefix(base))}
    return _without_side_tables(visible), base


def _without_side_tables(files: dict[str, int]) -> dict[str, int]:
    """A collection of the store is a data set as well: its parts are, its other tables are not."""
    folders = {path.rpartition("/")[0] for path in files if path.endswith("/plan.json")}
    side = re.compile(r"(errors|timings)-\d+\.parquet|_(summary|sources(-\d+)?)\.parquet")

    def kept(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return not (folder in folders and side.fullmatch(name))

    return {path: size for path, size in files.items() if kept(path)}


def _nothing(place: Place, files: Mapping[str, int]) -> str:
    packed = [path for path in files if path.lower().endswith(_COMPRESSED)]
    if packed:
        return (
            f"{place.url} holds compressed archives, such as {packed[0]}: unpack them, or make plain .tar files of them"
        )
    looked_for = f"images ({', '.join(IMAGE_SUFFIXES)}), *.tar or *.parquet"
    among = f"found {len(files)} files of other kinds" if files else "found no file at all"
    return f"no image at {place.url}: looked for {looked_for}; {among}"


def _is_file(path: str, info: Mapping[str, Any]) -> bool:
    """Links on a local disk too, wherever they lead: what cannot be read there becomes an error row, not a silent gap."""
    return bool(info["type"] == "file" or (info.get("islink") and not os.path.isdir(path)))


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _size(info: Mapping[str, Any]) -> int:
    return int(info.get("size") or 0)
