"""SAM's files: ``{"sd_base", "W+", "F4", "F6", "F8", "F10"}``, the invertibility network alone (Parmar et al. 2022).

The offsets of features are optimised; no encoders of them were published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.methods.published.description import SIZE, EncoderDescription, Tensors
from ganinv.methods.published.kinds import PublishedKind
from ganinv.methods.sam import PUBLISHED_THRESHOLD, Sam, SamConfig
from ganinv.networks import keymaps
from ganinv.networks.adopt import Lazy, adopt_new

TRUNK, LATENT = "sd_base", "W+"
SITES = tuple(f"F{k}" for k in range(0, 34, 2))
"""F4 are the features after convolution 4 and its toRGB, and so on."""


class PublishedSam(PublishedKind):
    """The names of its heads tell which sites it knows."""

    parts = (TRUNK, LATENT, *SITES)
    needs_mean = False

    def holds(self, parts: Mapping[str, Tensors]) -> bool:
        return TRUNK in parts

    def describe(
        self, parts: dict[str, Tensors], opts: dict[str, Any], latent_avg: Lazy | None, where: str
    ) -> EncoderDescription:
        if LATENT not in parts or not any(site in parts for site in SITES):
            raise WeightsRefused(
                f"{where} is an invertibility network of SAM with the heads {sorted(parts.keys() - {TRUNK})}; expected "
                f"{LATENT} and at least one of F4, F6, F8, F10"
            )
        return EncoderDescription(
            method="sam",
            encoder_type="InvertibilityNetwork",
            opts=opts,
            n_styles=0,
            input_size=(SIZE, SIZE),
            input_channels=3,
            latent_avg=None,
            parts=parts,
        )

    def build(self, what: EncoderDescription, latent_avg: Tensor | None, where: str) -> Sam:
        heads = sorted((site for site in SITES if site in what.parts), key=lambda site: int(site[1:]))
        cfg = SamConfig(sites=tuple(re.sub(r"F(\d+)", r"block[\1]", site) for site in heads), side=SIZE, in_units=False)
        spaces = (LATENT, *heads)
        tensors: dict[str, Lazy] = {
            f"{part}.{name}": tensor for part in (TRUNK, *spaces) for name, tensor in what.parts[part].items()
        }
        tensors |= {"threshold": torch.tensor(PUBLISHED_THRESHOLD), "deviations": torch.ones(len(heads))}
        return adopt_new(lambda: Sam(cfg), tensors, keymaps.invertibility(spaces), where)


SAM = PublishedSam()
