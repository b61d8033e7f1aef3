"""ReStyle (Alaluf et al. 2021, "A Residual-Based StyleGAN Encoder via Iterative Refinement"): encode, render, correct."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import GeneratorMismatch
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.inputs import fit, pool
from ganinv.methods.rows import RowEncoder


class ReStyle:
    """``restyle(images [B, 3, R, R] in [-1, 1]) -> Code`` after ``steps`` refinements of the mean latent.

    Each step adds E(image, rendering so far) to the code. It is pSp or e4e, depending on the encoder.

    Args:
        encoder: reads an image beside a rendering (``sees_rendering``).
        generator: the one that the encoder was trained with.
    """

    def __init__(self, encoder: RowEncoder, generator: Generator, steps: int = 5) -> None:
        if not encoder.cfg.sees_rendering:
            raise ValueError("ReStyle needs an encoder that sees the rendering (6 input channels), this one does not")
        if (encoder.num_ws, encoder.w_dim) != (generator.num_ws, generator.w_dim):
            raise GeneratorMismatch(
                f"the encoder gives latents of {encoder.num_ws}x{encoder.w_dim}, "
                f"generator {generator.name!r} takes {generator.num_ws}x{generator.w_dim}"
            )
        self.encoder, self.generator, self.steps = encoder, generator, steps

    def __call__(self, images: Tensor) -> Code:
        *_, last = self.refine(images)
        return last

    def refine(self, images: Tensor) -> Iterator[Code]:
        """The code after each step, the first one (from the mean latent) to the last."""
        size = self.encoder.input_size
        images = fit(images, size)
        w = self.encoder.latent_avg.expand(len(images), self.encoder.num_ws, -1)
        rendering = self.mean_rendering.expand(len(images), -1, -1, -1)
        for step in range(self.steps):
            if step:
                rendering = pool(self.generator.synthesize(Code(w=w)), size)
            w = w + self.encoder.offsets(torch.cat([images, rendering], dim=1))
            yield Code(w=w)

    @cached_property
    def mean_rendering(self) -> Tensor:
        """What the first step sees beside the image: the rendering of the mean latent [1, 3, *input_size]."""
        w = self.encoder.latent_avg.expand(1, self.encoder.num_ws, -1)
        with torch.no_grad():
            return pool(self.generator.synthesize(Code(w=w)), self.encoder.input_size)

    @property
    def fingerprint(self) -> str:
        """sha256 over the encoder's weights."""
        return self.encoder.fingerprint
