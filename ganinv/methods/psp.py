"""pSp (Richardson et al. 2021, "Encoding in Style"): every row of W+ has a head of its own, independent of the others."""

from __future__ import annotations

from torch import Tensor

from ganinv.methods.rows import RowEncoder


class Psp(RowEncoder):
    """``psp(images [B, 3, R, R] in [-1, 1]) -> Code``: row i is what head i says, plus ``latent_avg``."""

    def combine(self, maps: list[Tensor]) -> list[Tensor]:
        return [head(x) for head, x in zip(self.heads, maps, strict=True)]
