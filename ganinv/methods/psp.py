"""pSp (Richardson et al. 2021, "Encoding in Style"): every row of W+ has a head of its own, independent of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from ganinv.generators.stylegan2 import Generator
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.methods.rows import RowEncoder, RowEncoderConfig
from ganinv.training.learner import Learner


class PspConfig(RowEncoderConfig):
    """The shape of a pSp encoder: on a small backbone, or in a published form on IR-SE-50 or ResNet-34."""

    kind: Literal["psp"] = "psp"


class Psp(RowEncoder):
    """``psp(images [B, 3, R, R] in [-1, 1]) -> Code``: row i is what head i says, plus ``latent_avg``."""

    Config = PspConfig

    def combine(self, said: list[Tensor]) -> list[Tensor]:
        return said


class PspRecipe(InverterRecipe):
    """Training pSp (section 3.1): the shared losses on one rendering."""

    kind: Literal["psp"] = "psp"

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return InverterLearner(self, new_inverter(Psp, self, generator, needed, start))
