"""Images as files: a folder with everything below it, a glob, or one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ganinv.data.identity import file_key
from ganinv.data.kinds import HEAD, begins_as_image
from ganinv.data.source import Place, SourceRef, reading
from ganinv.data.walk import Listed
from ganinv.store.retrying import with_retries

_SIDE_BY_SIDE = 32


def file_sources(place: Place, files: Mapping[str, Listed], images: Sequence[str], base: str) -> Iterator[SourceRef]:
    """One source for each image file.

    Args:
        files: path -> what the listing says of it.
        images: the paths to take.
        base: folder that the ids are relative to.
    """
    for path, uri in zip(images, place.uris(images), strict=True):
        listed = files[path]
        yield SourceRef(uri, path, length=listed.size, key=file_key(path, base), version=listed.version)


def images_by_content(place: Place, paths: Sequence[str]) -> set[str]:
    """Those of ``paths`` that begin as images do. A file that cannot be opened is not among them."""
    workers = 1 if place.is_local else min(_SIDE_BY_SIDE, len(paths) or 1)
    with ThreadPoolExecutor(workers) as pool:
        heads = pool.map(lambda path: _head(place, path), paths)
        return {path for path, head in zip(paths, heads, strict=True) if begins_as_image(head)}


@with_retries
def _head(place: Place, path: str) -> bytes:
    try:
        with reading(path, pass_missing=True):
            if not place.is_local:
                return bytes(place.fs.cat_file(path, start=0, end=HEAD))
            if not place.holds(path):
                return b""
            with open(path, "rb") as file:
                return file.read(HEAD)
    except (FileNotFoundError, PermissionError):
        return b""
