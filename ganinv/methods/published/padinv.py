"""PadInv's files: ``{"models": {"encoder", "generator"}}`` in the Hammer dialect, without options (Bai et al. 2022).

The encoder has pSp's heads and pyramid under other names, and no mean latent of its own: that is the generator's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.methods.padinv import PadInv, PadInvConfig
from ganinv.methods.published.description import SIZE, EncoderDescription, Tensors
from ganinv.methods.published.kinds import PublishedKind
from ganinv.networks import keymaps
from ganinv.networks.adopt import Lazy, adopt_new

MARK = "padding_extractor.0.res_layer.0.weight"
W_DIM = 512
AVERAGE = "w_avg"


class PublishedPadInv(PublishedKind):
    """How many rings there are is told by their heads. Encoders of 256-pixel generators have heads that no layer reads."""

    parts = ("encoder",)
    mark = MARK

    def describe(
        self, parts: dict[str, Tensors], opts: dict[str, Any], latent_avg: Lazy | None, where: str
    ) -> EncoderDescription:
        encoder, decoder = parts["encoder"], parts.get("decoder", {})
        channels = encoder.get("input_layer.0.weight")
        if channels is None:
            raise WeightsRefused(f"{where} is a PadInv encoder without its input_layer.0.weight")
        heads = _count(encoder, r"latent_heads\.(\d{1,2})\.linear\.weight")
        layers = _count(decoder, r"synthesis\.layer(\d{1,2})\.weight")
        rows = layers + 1 if layers else heads
        if not 2 <= rows <= heads:
            raise WeightsRefused(
                f"{where}: its PadInv encoder has heads for {heads} rows of W+, its generator takes {rows}"
            )
        return EncoderDescription(
            method="padinv",
            encoder_type="PadInvEncoder",
            opts=opts,
            n_styles=rows,
            input_size=(SIZE, SIZE),
            input_channels=int(channels.shape[1]),
            latent_avg=decoder.get(AVERAGE) if latent_avg is None else latent_avg,
            parts=parts,
        )

    def build(self, what: EncoderDescription, latent_avg: Tensor | None, where: str) -> PadInv:
        if latent_avg is None:
            raise WeightsRefused(
                f"{where} has no models.generator with {AVERAGE}, which the encoder's output is added to: take the whole file"
            )
        tensors = what.parts["encoder"]
        rings = _count(tensors, r"padding_modulation_heads\.(\d{1,2})\.weight")
        if not rings:
            raise WeightsRefused(
                f"{where} cuts all its rings from one map (it has no padding_modulation_heads.*), which is not built here: the "
                "published files have a head for each padded layer"
            )
        encoder = {
            "kind": "psp",
            "num_ws": _count(tensors, r"latent_heads\.(\d{1,2})\.linear\.weight"),
            "w_dim": W_DIM,
            "resolution": what.input_size[1],
            "backbone": "ir-se-50",
            "img_channels": what.input_channels,
        }
        shape = {
            "encoder": encoder,
            "num_ws": what.n_styles,
            "const_channels": W_DIM,
            "ring_channels": [int(tensors[f"padding_modulation_heads.{i}.weight"].shape[0]) for i in range(rings)],
            "relative": False,
        }
        cfg, tensors = PadInvConfig.model_validate(shape), {**tensors, AVERAGE: latent_avg[0]}
        return adopt_new(lambda: PadInv(cfg), tensors, keymaps.PADINV, f"{where}: encoder")


def _count(tensors: Mapping[str, Lazy], pattern: str) -> int:
    """How many there are of what is numbered from 0.

    Raises:
        WeightsRefused: one of them is missing.
    """
    found = sorted(int(m[1]) for name in tensors if (m := re.fullmatch(pattern, name)))
    if found != list(range(len(found))):
        raise WeightsRefused(f"the file is not whole: of {pattern} it has the numbers {found}")
    return len(found)


PADINV = PublishedPadInv()
