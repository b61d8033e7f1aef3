"""Places to put images, one of every kind of file system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fsspec
import pytest

from ganinv.data import Dataset, open_dataset

Put = Callable[[str, bytes], None]


class Folder:
    """A folder anywhere: ``put`` writes a file, ``url`` and ``options`` open it as a data set."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.options = url, options

    def put(self, name: str, data: bytes) -> None:
        fs, root = fsspec.url_to_fs(self.url, **self.options)
        path = f"{root}/{name}"
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(path, data)


def opened(folder: Folder, suffix: str = "", **choices: Any) -> Dataset:
    """The data set in a folder, or in what ``suffix`` names in it."""
    return open_dataset(folder.url + suffix, **choices, **folder.options)


@pytest.fixture
def folder(place: tuple[str, dict[str, str]]) -> Folder:
    url, options = place
    return Folder(url, **options)
