"""HyperStyle (Alaluf et al. 2022): a code in W, and a hypernetwork that adapts the generator's weights to the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code, HeadCode
from ganinv.codes.parts import Head
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import ImageEncoder, Inverter, InverterConfig
from ganinv.methods.inputs import fit, pool
from ganinv.networks.hypernet import HyperNetwork, Shape


class HyperStyleConfig(InverterConfig):
    """The shape of a hypernetwork: which weights it changes (layer name -> shape), and how often it is called."""

    kind: Literal["hyperstyle"] = "hyperstyle"
    layers: Mapping[str, Shape]
    img_channels: int = 3
    num_ws: int = Field(ge=1)
    w_dim: int = 512
    latent_avg_per_row: bool = False
    steps: int = Field(5, ge=1)
    """Passes at inference."""

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """All convolutions, unless ``layers`` says which."""
        names = [name for name in generator.style_names if name.startswith("convs.")]
        layers = {name: tuple(generator.synthesis.get_parameter(f"{name}.weight").shape) for name in names}
        return super().for_generator(generator, {"layers": layers, **given})


class HyperStyle(Inverter):
    """``hyperstyle(images [B, 3, R, R] in [-1, 1]) -> Code`` in W with weight offsets, after ``steps`` passes.

    Each pass compares the image with the rendering so far and adds to the offsets D of the weights W (1 + D); the
    latent stays. Offsets are held as vectors for the hypernetwork's heads (``HeadCode``), exactly.

    ``needed["w_encoder"]`` gives the latent, as an offset to ``latent_avg``, which is the hypernetwork's own.
    """

    Config = HyperStyleConfig
    needs = ("w_encoder",)
    cfg: HyperStyleConfig
    latent_avg: Tensor

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.hypernet = HyperNetwork(cfg.layers, 2 * cfg.img_channels)
        shape = (cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else (cfg.w_dim,)
        self.register_buffer("latent_avg", torch.zeros(shape))

    @property
    def w_encoder(self) -> ImageEncoder:
        """The encoder into W."""
        encoder = self.need("w_encoder")
        if not isinstance(encoder, ImageEncoder):
            raise ConfigError(f"HyperStyle starts from an encoder of one pass into W, got a {encoder.cfg.kind}")
        return encoder

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        size = self.w_encoder.input_size
        images = fit(images, size)
        if code is None:
            code = Code(w=self.w_encoder.offsets(images) + self.latent_avg)
        heads = self.hypernet.heads
        sums: dict[str, Tensor] = {}
        for step in range(1, (steps or self.cfg.steps) + 1):
            shown = code.detach() if detach else code
            rendering = pool(self.generator.synthesize(shown), size)
            for layer, found in self.hypernet(torch.cat([images, rendering], dim=1)).items():
                name = f"{layer}.weight"
                before = sums.get(name)
                if before is not None and detach:
                    before = before.detach()
                sums[name] = found if before is None else before + found
            passes = torch.full((len(images),), float(step), device=images.device)
            code = Code(w=code.w, scales={name: HeadCode(total, passes, heads[name]) for name, total in sums.items()})
            yield code

    def weight_heads(self) -> Mapping[str, Head]:
        return self.hypernet.heads
