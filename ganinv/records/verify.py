"""Verify on write: a code is rendered from the bytes that will be stored, and what that costs is part of its row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from ganinv.codes.code import Code, HeadCode
from ganinv.codes.parts import Head
from ganinv.records.record import RecordConfig, decode, encode

Measure = Callable[[Code], tuple[float, float]]
"""Renders a code of one image (on the CPU) and compares it with the image: (mse, distance)."""


@dataclass(frozen=True)
class Record:
    """The code of one image as it is stored.

    Args:
        w: [num_ws, w_dim] float32 on the CPU. extras: the safetensors object beside it, None without extras.
        form: ``RecordConfig.name`` of the form that was kept; None without extras.
        mse, distance: of the rendering from this form.
    """

    w: Tensor
    extras: bytes | None
    form: str | None
    mse: float | None
    distance: float | None


def verified(code: Code, mse: float | None, distance: float | None, config: RecordConfig, measure: Measure) -> Record:
    """The record of a code of one image: in the configured form, or in a more precise one where that is clearly worse.

    Costs one rendering when the first form is good, and none when ``w`` is all that the code has: it is stored exactly.

    Args:
        mse, distance: of the code itself, as the method measured them. None where it did not: a code that has more than
            ``w`` is measured here then.

    Raises:
        NotFinite: an extra holds NaN or infinity.
    """
    tries = ((each.name, encode(code, each)) for each in config.and_safer())
    if distance is None:
        if encode(code, config) is None:
            return Record(code.w[0].cpu().float(), None, None, None, None)
        mse, distance = measure(code)
    limit = None if config.max_rise is None else distance * (1 + config.max_rise)
    return first_good(code, tries, limit, measure) or Record(code.w[0].cpu().float(), None, None, mse, distance)


def first_good(
    code: Code, tries: Iterable[tuple[str | None, bytes | None]], limit: float | None, measure: Measure
) -> Record | None:
    """The first of ``tries`` (name of a form, extras in it) whose distance is at most ``limit``, else the last.

    None when there is nothing but ``w``.
    """
    w, heads = code.w.detach().cpu().float(), heads_of(code)
    record = None
    for form, extras in tries:
        if extras is None:
            return None
        mse, distance = measure(Code(w, **decode(extras)).with_heads(heads))
        record = Record(w[0], extras, form, mse, distance)
        if limit is None or distance <= limit:  # False for NaN
            break
    return record


def heads_of(code: Code) -> dict[str, Head]:
    """The hypernetwork heads that a code carries; files do not hold them."""
    deltas = {**(code.weights or {}), **(code.scales or {})}
    return {name: d.head for name, d in deltas.items() if isinstance(d, HeadCode) and d.head is not None}
