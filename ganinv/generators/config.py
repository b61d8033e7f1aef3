"""The shape of a StyleGAN2, as our ``config.json`` holds it and as importers fill it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class GeneratorConfig(BaseModel):
    """The shape of a StyleGAN2. ``channels[i]`` is the width at resolution ``4 * 2**i``.

    Args:
        resolution: of the images, a power of two of at least 4.
        c_dim: size of the class vector; 0 for an unconditional generator.
        mapping_lr_mul: learning-rate multiplier of the mapping network's layers.
        architecture: how the image leaves the synthesis (Karras et al. 2020, figure 7). ``skip`` sums a toRGB of every
            resolution; ``orig`` and ``resnet`` have one toRGB at the end, ``resnet`` adds a 1x1 branch past each block.
        num_fp16_res: how many of the highest resolutions may run in float16 (stylegan2-ada). They do so only at the
            generator's precision ``native-float16``.
        conv_clamp: limit on the magnitude of the output of each convolution and toRGB; None for no limit. It applies in
            every precision, as in the files trained with it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: int
    channels: tuple[int, ...]
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    img_channels: int = 3
    mapping_layers: int = 8
    mapping_lr_mul: float = 0.01
    architecture: Literal["skip", "resnet", "orig"] = "skip"
    num_fp16_res: int = Field(0, ge=0)
    conv_clamp: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> GeneratorConfig:
        levels = math.log2(self.resolution) if self.resolution > 0 else 0.0
        if levels != int(levels) or self.resolution < 4:
            raise ValueError(f"resolution must be a power of two of at least 4, got {self.resolution}")
        if len(self.channels) != int(levels) - 1:
            raise ValueError(
                f"channels must name one width for each of the {int(levels) - 1} resolutions 4 .. {self.resolution}, "
                f"got {len(self.channels)}"
            )
        return self

    @property
    def num_convs(self) -> int:
        return 2 * len(self.channels) - 1

    @property
    def num_ws(self) -> int:
        return 2 * len(self.channels)

    @property
    def fp16_resolution(self) -> int:
        """The lowest resolution that may run in float16: never 4, and above ``resolution`` when there is none."""
        return max(self.resolution * 2 // 2**self.num_fp16_res, 8) if self.num_fp16_res else 2 * self.resolution
