"""The names of BasicSR's StyleGAN2, of which GFPGAN and many restoration projects have theirs: rosinality's network under others.

Its noise strengths are tensors of one number named ``weight``, as the convolutions are; the rest is one name for another.
"""

from __future__ import annotations

import re

from ganinv.generators.formats.parts import StateDict

LAYOUT = "basicsr"
GENERATOR_MARK = "constant_input.weight"
DISCRIMINATOR_MARK = "conv_body.0.0.weight"

_RULES = (
    (r"constant_input\.weight", "input.input"),
    (r"style_mlp\.(\d+\..*)", r"style.\1"),
    (r"style_conv1\.weight", "conv1.noise.weight"),
    (r"style_convs\.(\d+)\.weight", r"convs.\1.noise.weight"),
    (r"style_conv1\.(modulated_conv)\.(.*)", r"conv1.conv.\2"),
    (r"style_convs\.(\d+)\.modulated_conv\.(.*)", r"convs.\1.conv.\2"),
    (r"style_conv1\.(.*)", r"conv1.\1"),
    (r"style_convs\.(.*)", r"convs.\1"),
    (r"(to_rgb1|to_rgbs\.\d+)\.modulated_conv\.(.*)", r"\1.conv.\2"),
    (r"noises\.noise(\d+)", r"noises.noise_\1"),
    (r"conv_body\.(.*)", r"convs.\1"),
)


def renamed(state: StateDict) -> StateDict:
    """The state under rosinality's names; a name that is not a rule's stays, and is refused there."""
    return StateDict({_name(name): tensor for name, tensor in state.tensors.items()}, state.attributes, state.cls)


def _name(name: str) -> str:
    for pattern, theirs in _RULES:
        if match := re.fullmatch(pattern, name):
            return match.expand(theirs)
    return name
