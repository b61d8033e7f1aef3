"""e4e (Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation"): one base latent and a delta per row."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from ganinv.methods.rows import RowEncoder, RowEncoderConfig


class E4eConfig(RowEncoderConfig):
    """The shape of an e4e encoder: on a small backbone, or in the published form on IR-SE-50."""

    kind: Literal["e4e"] = "e4e"


class E4e(RowEncoder):
    """``e4e(images [B, 3, R, R] in [-1, 1]) -> Code``; ``latents(images)`` gives its w [B, num_ws, w_dim].

    Row 0 is the base, row i the base plus delta i; ``latent_avg`` is added at the end. Rows up to ``stage`` have their
    delta (progressive training, section 3.1); inference uses all.
    """

    Config = E4eConfig

    def build(self) -> None:
        super().build()
        self.stage = self.num_ws - 1

    def combine(self, maps: list[Tensor]) -> list[Tensor]:
        base = self.heads[0](maps[0])
        deltas = (self.heads[i](maps[i]) for i in range(1, self.stage + 1))
        rows = [base, *(base + delta for delta in deltas)]
        return rows + [base] * (self.num_ws - len(rows))
