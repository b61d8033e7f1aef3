"""The files below a folder of a local disk: linked folders are entered once, and what is not entered is noted."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ganinv.data.left_out import LeftOut
from ganinv.data.names import clean_id


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of a listing.

    Args:
        size: in bytes.
        version: text that changes with the content, as far as a listing shows: an ETag, or size and times.
    """

    size: int
    version: str | None = None


def files_below(folder: str, depth: int | None, left: LeftOut) -> tuple[dict[str, Listed], list[str]]:
    """(path -> file, unsorted; folders that were not entered because they lie deeper than ``depth``).

    Hidden files and folders are left out. A linked folder is entered once, after all others; one that leads to a parent
    folder, or to a folder that is read anyway, is not entered.
    """
    found: dict[str, Listed] = {}
    deeper: list[str] = []
    entered: set[tuple[int, int]] = set()
    links: list[tuple[str, int]] = []
    waiting = [(folder, 1)]
    while waiting or links:
        if not waiting:
            links.sort(reverse=True)
            path, level = links.pop()
            if _is_above(path):
                left.add("linked folders", "they lead back to a folder above themselves", clean_id(path))
                continue
            waiting.append((path, level))
        path, level = waiting.pop()
        try:
            here = _identity(path)
            if here in entered:
                left.add("linked folders", "what they lead to is read already", clean_id(path))
                continue
            entered.add(here)
            with os.scandir(path) as entries:
                for entry in entries:
                    _note(entry, level, depth, found, waiting, links, deeper, left)
        except OSError as error:
            left.add("folders", f"they cannot be read: {error.strerror}", clean_id(path))
    return found, deeper


def listed_file(path: str) -> Listed:
    """One file, or link to one; of a link that leads nowhere, the link itself."""
    try:
        return _listed(os.stat(path))
    except OSError:
        return _listed(os.lstat(path))


def _note(
    entry: os.DirEntry[str],
    level: int,
    depth: int | None,
    found: dict[str, Listed],
    waiting: list[tuple[str, int]],
    links: list[tuple[str, int]],
    deeper: list[str],
    left: LeftOut,
) -> None:
    linked = entry.is_symlink()
    folder = entry.is_dir()
    if entry.name.startswith("."):
        left.add("hidden folders" if folder else "hidden files", "their names begin with a dot", clean_id(entry.path))
    elif folder and depth is not None and level >= depth:
        deeper.append(entry.path)
    elif folder:
        (links if linked else waiting).append((entry.path, level + 1))
    elif linked:
        found[entry.path] = listed_file(entry.path)
    elif entry.is_file():
        found[entry.path] = _listed(entry.stat())
    else:
        left.add("devices and pipes", "they are not files", clean_id(entry.path))


def _listed(found: os.stat_result) -> Listed:
    return Listed(found.st_size, f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}")


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _is_above(link: str) -> bool:
    """Whether a linked folder leads to one of its own parents."""
    target, place = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return place == target or place.startswith(target.rstrip("/") + "/")
