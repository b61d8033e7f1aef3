"""IntereStyle (Moon and Park 2022, "Encoding an Interest Region for Robust StyleGAN Inversion"): ReStyle that learns for the part
of the image that matters. Inference is ReStyle's, without a mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.degradations.degrade import to_image, to_pixels
from ganinv.degradations.sampling import blurred
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.methods.restyle import ReStyle, ReStyleConfig
from ganinv.training.batches import Batch, DataConfig
from ganinv.training.learner import Learner
from ganinv.training.masks import INTEREST, MaskConfig
from ganinv.training.step import Step


class IntereStyleConfig(ReStyleConfig):
    """The shape of IntereStyle, which is ReStyle's."""

    kind: Literal["interestyle"] = "interestyle"  # type: ignore[assignment]


class IntereStyle(ReStyle):
    """``interestyle(images [B, 3, R, R] in [-1, 1]) -> Code``: ReStyle's network and loop, trained another way."""

    Config = IntereStyleConfig


class IntereStyleRecipe(InverterRecipe):
    """Training IntereStyle (section 3): losses within the interest region, early passes that see the rest blurred (uninterest
    filter), and a pass on what lies outside it that may not change what lies inside (interest disentanglement)."""

    kind: Literal["interestyle"] = "interestyle"
    data: DataConfig = DataConfig(masks=MaskConfig(segmenter="aligned-face"))
    passes: int = Field(5, ge=1)
    low_pass: float = Field(0.0625, ge=0)
    """Blur that the first pass sees, its standard deviation as a share of the side; it falls with the square of the passes
    that are left, to none. Published: 16 pixels of the stored file, whatever its size."""
    filtered: Literal["outside", "whole"] = "outside"
    """Where views are blurred: outside the interest region, as the paper says, or everywhere, as its code does."""
    backprop: Literal["all", "last"] = "all"
    """Passes with a loss: all, as in ReStyle, or the last one, as the published code trains."""
    disentangle: float = Field(0.05, ge=0)
    """Weight of the losses after one more pass, which sees the image beside its interest region. Published code: 0.05, or,
    in its newer trainer, none."""

    @model_validator(mode="after")
    def _check(self) -> IntereStyleRecipe:
        if self.data.masks is None:
            raise ValueError(
                "IntereStyle learns within a region of interest: set data.masks, such as {segmenter: aligned-face}, or train "
                "restyle"
            )
        return self

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return IntereStyleLearner(self, new_inverter(IntereStyle, self, generator, needed, start))


class IntereStyleLearner(InverterLearner[IntereStyle, IntereStyleRecipe]):
    """One step of IntereStyle's training: a backward pass for each pass with a loss, and one for the disentanglement."""

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        recipe, mask = self.recipe, batch.masks[INTEREST]
        views = self.views(batch.images, mask)
        codes = self.network.look(views, detach=True)
        for number in range(len(views)):
            counts = recipe.backprop == "all" or number == len(views) - 1
            with torch.set_grad_enabled(counts):
                code = next(codes)
            if counts:
                terms = self.losses(self.generator.synthesize(code), batch, code, mask)
                yield {**terms, "unmasked": (0.0, batch.images.new_tensor(float(batch.unmasked)))}
        if recipe.disentangle:
            w = code.w.detach()
            beyond = Code(w=w + self.network.correction(batch.images, batch.images * mask))
            terms = self.losses(self.generator.synthesize(beyond), batch, beyond, mask)
            yield {f"disentangled_{n}": (recipe.disentangle * weight, value) for n, (weight, value) in terms.items()}

    def views(self, images: Tensor, mask: Tensor) -> list[Tensor]:
        """What each pass sees of the images [B, C, R, R]."""
        radii = low_pass_radii(self.recipe.passes, self.recipe.low_pass * images.shape[-1])
        return [low_passed(images, radius, mask if self.recipe.filtered == "outside" else None) for radius in radii]


def low_pass_radii(passes: int, first: float) -> list[float]:
    """Radius of the blur that each pass sees, in pixels: of five passes 16, 9, 4, 1, 0 for ``first`` 16."""
    return [first * ((passes - 1 - i) / (passes - 1)) ** 2 for i in range(passes)] if passes > 1 else [0.0]


def low_passed(images: Tensor, radius: float, sharp: Tensor | None = None) -> Tensor:
    """Images [B, C, R, R] in [-1, 1] with a Gaussian blur of ``radius`` pixels.

    Args:
        sharp: [B, 1, R, R], 1 where they stay as they are.
    """
    if radius <= 0:
        return images
    soft = torch.stack([to_image(blurred(to_pixels(image), radius), image) for image in images])
    return soft if sharp is None else images * sharp + soft * (1 - sharp)
