"""One image's own generator: what its code changes of the shared one, put into the weights, for programs that know only w."""

from __future__ import annotations

import copy

import torch

from ganinv.codes.code import Code
from ganinv.codes.parts import masked
from ganinv.generators.extras import Extras, blend_noise, check_extras
from ganinv.generators.stylegan2 import Generator


def bake(generator: Generator, code: Code) -> tuple[Generator, tuple[str, ...]]:
    """A generator that renders a code from ``w`` alone, with the stored noise.

    Args:
        code: of one image. Tuned weights, scales, steps in S, noise maps and the constant go into the weights.

    Returns:
        The generator (``generator`` itself where the code changes nothing), and the fields of the code that no StyleGAN2 file
        can hold: they are left out, and the rendering lacks what they did.
    """
    if len(code) != 1:
        raise ValueError(f"a generator of its own is that of one image, got a code of {len(code)}")
    left = tuple(name for name in ("features", "padding", "style_values", "segments") if getattr(code, name))
    changing = ("weights", "scales", "styles", "noise")
    if not any(getattr(code, name) for name in changing) and code.const is None:
        return generator, left
    check_extras(code, generator.synthesis)
    own = copy.deepcopy(generator)
    extras = Extras(code)
    synthesis = own.synthesis
    with torch.no_grad():
        for name, parameter in synthesis.named_parameters():
            changed = extras.parameter(parameter.detach().clone(), name)
            parameter.copy_(changed.reshape(parameter.shape))
        for name, layer, _ in synthesis.layers():
            offset = (code.styles or {}).get(name)
            if offset is not None:
                layer.affine.bias.add_(offset[0].to(layer.affine.bias))
        for k, given in (code.noise or {}).items():
            noise = synthesis.get_buffer(f"convs.{k}.noise")
            noise.copy_(blend_noise(noise, masked(given)).reshape(noise.shape))
        if code.const is not None:
            synthesis.const.copy_(masked(code.const).over(synthesis.const[None])[0])
    own.name = f"{generator.name}-tuned"
    own._fingerprint = None
    return own, left
