"""HyperStyle (Alaluf et al. 2022): a code in W, and a hypernetwork that adapts the generator's weights to the image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ganinv.codes.code import Code, HeadCode
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import ImageEncoder, fingerprint_of
from ganinv.methods.inputs import fit, pool
from ganinv.networks.hypernet import HyperNetwork


class HyperStyle:
    """``hyperstyle(images [B, 3, R, R] in [-1, 1]) -> Code`` in W with weight offsets, after ``steps`` passes.

    Each pass compares the image with the rendering so far and adds to the offsets D of the weights W (1 + D); the
    latent stays. Offsets are held as 512 numbers per layer (``HeadCode``), exactly.

    Args:
        w_encoder: gives the latent, as an offset to ``latent_avg``.
        generator: the one that the hypernetwork was trained with.
        latent_avg: [w_dim] or [num_ws, w_dim]; the encoder's own by default.
    """

    def __init__(
        self,
        w_encoder: ImageEncoder,
        hypernet: HyperNetwork,
        generator: Generator,
        *,
        latent_avg: Tensor | None = None,
        steps: int = 5,
    ) -> None:
        self.w_encoder, self.hypernet, self.generator, self.steps = w_encoder, hypernet, generator, steps
        self.latent_avg = w_encoder.latent_avg if latent_avg is None else latent_avg

    def __call__(self, images: Tensor) -> Code:
        *_, last = self.refine(images)
        return last

    def refine(self, images: Tensor) -> Iterator[Code]:
        """The code after each pass."""
        size = self.w_encoder.input_size
        images = fit(images, size)
        code = Code(w=self.w_encoder.offsets(images) + self.latent_avg)
        heads = self.hypernet.heads
        sums: dict[str, Tensor] = {}
        for step in range(1, self.steps + 1):
            rendering = pool(self.generator.synthesize(code), size)
            for layer, found in self.hypernet(torch.cat([images, rendering], dim=1)).items():
                name = f"{layer}.weight"
                sums[name] = sums[name] + found if name in sums else found
            passes = torch.full((len(images),), float(step), device=images.device)
            code = Code(w=code.w, scales={name: HeadCode(total, passes, heads[name]) for name, total in sums.items()})
            yield code

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights of both networks and the mean latent."""
        return fingerprint_of(self.w_encoder, self.hypernet, latent_avg=self.latent_avg)
