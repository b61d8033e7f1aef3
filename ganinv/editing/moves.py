"""What a step in Z, W, W+ or S does to a code. Everything else that the code holds stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.codes.parts import masked
from ganinv.directions.direction import Direction
from ganinv.errors import ConfigError

if TYPE_CHECKING:
    from ganinv.generators.stylegan2 import Generator

Step = tuple[Direction, Tensor]
"""A direction, and its strength: one for all samples [] or [B]."""


def moved(code: Code, steps: Sequence[Step], generator: Generator | None = None, out: Tensor | None = None) -> Code:
    """The code after all steps. Each is computed on the code as given and they are added, so their order does not matter.

    * W and W+: the step is added to ``w``.
    * S: it is added to ``Code.styles``.
    * Z: with z the one that w was mapped from, w becomes ``w + map(z + step) - map(z)``: exact for an inversion in Z, and
      what was refined in W afterwards is kept.

    An inversion in S has styles that take the place of those that w gives. A step in W moves them by what it would have
    moved the styles of w.

    Args:
        generator: whose latents these are; needed in Z, and for steps in W of an inversion in S.
        out: [B, L, D], where the new ``w`` is written, in one pass over the old one.

    Raises:
        ConfigError: a direction does not fit the code, the code has no z, or the generator is needed and not given.
    """
    w: Tensor | None = None
    z: Tensor | None = None
    offsets: dict[str, Tensor] = {}
    for direction, strength in steps:
        if direction.space == "s":
            _add(offsets, direction.style_offsets(strength, code.w))
        elif direction.space == "z":
            step = direction.step_z(_z_of(code, direction), strength)
            z = step if z is None else z + step
        else:
            w = _sum(w, direction.step(code.w, strength))
    if z is not None and code.z is not None:
        w = _sum(w, _mapped(code.z + z, code, generator) - _mapped(code.z, code, generator))
        code = replace(code, z=code.z + z)
    if w is not None and code.style_values and w.any():
        _add(offsets, _style_steps(code, w, generator))
    if w is not None:
        code = code.with_w(torch.add(code.w, w, out=out))
    elif out is not None:
        code = code.with_w(out.copy_(code.w))
    return add_styles(code, offsets) if offsets else code


def _sum(a: Tensor | None, b: Tensor) -> Tensor:
    """The sum of two steps [B, L, D]; where both are one for the whole batch, so is the sum."""
    if a is None:
        return b
    shared = a.stride(0) == b.stride(0) == 0
    return (a[:1] + b[:1]).expand_as(a) if shared else a + b


def moved_in_segment(code: Code, segment: str | int, steps: Sequence[Step], generator: Generator | None = None) -> Code:
    """The code after all steps in one of its segments (ChunkyGAN): they are computed on that segment's own latent.

    Raises:
        ConfigError: as ``moved``, or the code has no such segment.
    """
    one = replace(code.segment(segment), styles=None)
    after = moved(one, steps, generator)
    assert code.segments is not None
    return replace(code, segments=code.segments.moved(segment, after.w - one.w, after.styles))


def add_styles(code: Code, offsets: Mapping[str, Tensor]) -> Code:
    """The code with offsets [B or 1, C] by layer name added to its styles.

    Raises:
        ConfigError: a layer of the code has another number of channels.
    """
    styles = dict(code.styles or {})
    _add(styles, offsets)
    return replace(code, styles=styles or None)


def _add(styles: dict[str, Tensor], offsets: Mapping[str, Tensor]) -> None:
    for name, offset in offsets.items():
        own = styles.get(name)
        if own is not None and own.shape[1:] != offset.shape[1:]:
            raise ConfigError(
                f"layer {name} of this code has {own.shape[1]} styles, an edit moves {offset.shape[1]}: it belongs to another "
                "generator"
            )
        styles[name] = offset if own is None else own + offset


def _z_of(code: Code, direction: Direction) -> Tensor:
    if code.z is None:
        raise ConfigError(
            f"direction {direction.name!r} lives in z, and this code has no z: only samples and inversions in z have one. "
            "Invert with a method in z, or use a direction in w"
        )
    return code.z


def _mapped(z: Tensor, code: Code, generator: Generator | None) -> Tensor:
    """Rows of W [B, num_ws, w_dim] of z [B, z_dim]."""
    if generator is None:
        raise ConfigError(
            "an edit in z goes through the mapping network: give the generator, Edit.apply(..., generator=g)"
        )
    if generator.c_dim:
        raise ConfigError(
            f"generator {generator.name!r} is conditional: a code does not keep its class, so z cannot move"
        )
    with torch.no_grad():
        return generator.map(z.to(generator.device)).to(code.w)


def _style_steps(code: Code, step: Tensor, generator: Generator | None) -> dict[str, Tensor]:
    """What a step in W does to the styles that the code replaces: [B, C] by layer name."""
    if generator is None:
        raise ConfigError(
            "this code was inverted in S: a step in w needs the generator to move its styles, "
            "Edit.apply(..., generator=g), or use a direction in s"
        )
    with torch.no_grad():
        before, after = (generator.styles(w.to(generator.device)) for w in (code.w, code.w + step))
    steps = zip(generator.style_names, before, after, strict=True)
    moves = {name: (b - a).to(code.w) for name, a, b in steps}
    parts = {name: masked(value) for name, value in (code.style_values or {}).items()}
    # Where a mask is 0 the style comes from w, which moves by itself.
    return {name: moves[name] if part.mask is None else part.mask * moves[name] for name, part in parts.items()}
