"""Exchange PadInv's two halves between images (Bai et al. 2022, section 4.3): constant and rings hold an image's
structure (contour, pose, background), W+ its style, and each can come from another image.

All of it is arithmetic on codes: nothing is rendered, and stored inversions do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ganinv.codes.code import Code, Masked
from ganinv.errors import ConfigError


def transfer_structure(style: Code, structure: Code, rings: Collection[int] | None = None) -> Code:
    """The images of ``style`` with the layout of ``structure``: constant and rings of the one, all else of the other.

    Args:
        style, structure: codes with constant and rings, [B] each; one of [1] goes with every other.
        rings: only those of these convolutions (0, 2, 4, ... for 4, 8, 16, ... pixels); the constant goes with ring 0.

    Raises:
        ConfigError: a code without constant or rings, or with other ones; a ring that is not there.
    """
    style, structure = _same_batch(_checked(style, "style"), _checked(structure, "structure"))
    own, theirs = dict(style.padding or {}), structure.padding or {}
    wanted = set(theirs) if rings is None else set(rings)
    if unknown := sorted(wanted - theirs.keys()):
        raise ConfigError(f"no rings {unknown} in these codes; they have {sorted(theirs)}")
    return replace(
        style,
        const=structure.const if 0 in wanted else style.const,
        padding=own | {k: theirs[k] for k in wanted},
    )


def transfer_style(structure: Code, style: Code, rows: tuple[int, int] | None = None) -> Code:
    """The images of ``structure`` in the style of ``style``: W+ of the other image, with one's own constant and rings.

    With all rows this is ``transfer_structure`` seen from the other side; late rows alone leave the shapes and take the
    colours.

    Args:
        rows: of W+, first and end; all by default.

    Raises:
        ConfigError: a code without constant or rings, or rows that W+ does not have.
    """
    structure, style = _same_batch(_checked(structure, "structure"), style)
    first, end = (0, structure.w.shape[1]) if rows is None else rows
    if not 0 <= first < end <= structure.w.shape[1]:
        raise ConfigError(f"rows [{first}, {end}) are not rows of W+: these codes have {structure.w.shape[1]}")
    w = torch.cat([structure.w[:, :first], style.w[:, first:end], structure.w[:, end:]], dim=1)
    return structure.with_w(w)


def edit_like(code: Code, before: Code, after: Code, style: float = 1.0, structure: float = 1.0) -> Code:
    """``code`` changed as ``before`` was to become ``after``: an edit that one pair of images shows (section 4.3).

    Args:
        before, after: inversions of the pair, [1].
        style, structure: how much of the change of W+, and of constant and rings; 0 leaves that half.

    Raises:
        ConfigError: a code without constant or rings, or with others.
    """
    code, before, after = (
        _checked(each, name) for each, name in ((code, "code"), (before, "before"), (after, "after"))
    )
    _same_rings(before, after)
    _same_rings(code, before)
    const = _const(code) + structure * (_const(after) - _const(before))
    rings = {
        k: ring + structure * ((after.padding or {})[k] - (before.padding or {})[k])
        for k, ring in (code.padding or {}).items()
    }
    return replace(code, w=code.w + style * (after.w - before.w), const=const, padding=rings)


def _checked(code: Code, name: str) -> Code:
    if code.const is None or not code.padding:
        raise ConfigError(
            f"{name} has no constant and rings of its own (const, padding): these operations are for inversions by padinv"
        )
    return code


def _same_rings(one: Code, other: Code) -> None:
    if (one.padding or {}).keys() != (other.padding or {}).keys():
        raise ConfigError(
            f"codes with other rings, {sorted(one.padding or {})} and {sorted(other.padding or {})}: take inversions of one "
            "encoder"
        )


def _same_batch(one: Code, other: Code) -> tuple[Code, Code]:
    if other.padding:
        _same_rings(one, other)
    sizes: Sequence[int] = (len(one), len(other))
    if sizes[0] != sizes[1] and 1 not in sizes:
        raise ConfigError(f"{sizes[0]} and {sizes[1]} codes: give as many of each, or one for all")
    count = max(sizes)
    return tuple(each if len(each) == count else each[[0] * count] for each in (one, other))  # type: ignore[return-value]


def _const(code: Code) -> Tensor:
    if code.const is None or (isinstance(code.const, Masked) and code.const.mask is not None):
        raise ConfigError("a constant that holds in part cannot be moved: take inversions by padinv")
    return code.const.value if isinstance(code.const, Masked) else code.const
