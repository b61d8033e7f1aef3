"""Images as files: a folder with everything below it, a glob, or one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from ganinv.data.source import Place, SourceRef, clean_id
from ganinv.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


def file_sources(place: Place, files: Mapping[str, int], base: str) -> dict[str, SourceRef]:
    """One source for each image file.

    Args:
        files: path -> size in bytes; other than image files are left out.
        base: folder that the ids are relative to.
    """
    paths = [path for path in files if is_image(path)]
    names = {path: clean_id(path.removeprefix(base).lstrip("/")) for path in paths}
    ids = ids_of(names)
    uris = zip(paths, place.uris(paths), strict=True)
    return {ids[path]: SourceRef(uri, path, length=files[path]) for path, uri in uris}


def ids_of(names: Mapping[str, str]) -> dict[str, str]:
    """key -> id: the name without its extension, or with it where two names would be one (``a.jpg``, ``a.png``)."""
    short = {key: str(PurePosixPath(name).with_suffix("")) for key, name in names.items()}
    count = Counter(short.values())
    ids = {key: short[key] if count[short[key]] == 1 else names[key] for key in names}
    check_unique(ids.values(), "rename one of the files")
    return ids


def check_unique(ids: Iterable[str], advice: str) -> None:
    """A :class:`DataError` that names the first id that comes twice."""
    twice = sorted(image_id for image_id, count in Counter(ids).items() if count > 1)
    if twice:
        raise DataError(f"{len(twice)} image ids come more than once, such as {twice[0]!r}: {advice}")


def is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)
