"""Direct editing of activation tensors: copy the activations of a region into another image (Image2StyleGAN++, Abdal et al.
2020, "activation tensor manipulation")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ganinv.codes.code import Code, Feature, Masked
from ganinv.editing.masks import shrunk
from ganinv.generators.stylegan2 import Generator


@torch.no_grad()
def copy_activations(
    generator: Generator, code: Code, source: Code, layers: Sequence[int], mask: Tensor, strength: float = 1.0
) -> Code:
    """``code`` with the activations of ``source`` where ``mask`` is 1: ``A_l[M]`` becomes ``A'_l[M]``.

    What it renders need not be an image of any latent: the paper embeds it again, and then its details.

    Args:
        source: B codes, or one for all.
        layers: convolutions k whose activations are copied, after noise and non-linearity. A replacement that the code
            already has at one of them gives way.
        mask: [B or 1, 1, R, R] in [0, 1]; averaged down to the size of each layer.
        strength: 1 copies, less blends.

    Raises:
        ValueError: a layer that the generator does not have.
    """
    sites = [f"act[{k}]" for k in layers]
    _, captured = generator.synthesize(source, capture=sites)
    features = dict(code.features or {})
    mask = mask.to(code.w)
    for site in sites:
        value = captured[site]
        copied = Masked(value, strength * shrunk(mask, value.shape[-1]))
        features[site] = replace(features.get(site, Feature()), replace=copied)
    return replace(code, features=features)
