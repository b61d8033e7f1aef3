"""pSp (Richardson et al. 2021, "Encoding in Style"): every row of W+ has a head of its own, independent of the others."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ganinv.methods.rows import RowEncoder, RowEncoderConfig


class PspConfig(RowEncoderConfig):
    """The shape of a pSp encoder: on a small backbone, or in a published form on IR-SE-50 or ResNet-34."""

    kind: Literal["psp"] = "psp"


class Psp(RowEncoder):
    """``psp(images [B, 3, R, R] in [-1, 1]) -> Code``: row i is what head i says, plus ``latent_avg``."""

    Config = PspConfig

    def combine(self, maps: list[Tensor]) -> list[Tensor]:
        return [head(x) for head, x in zip(self.heads, maps, strict=True)]
