"""Verify on write: codes are rendered from the bytes that will be stored, and what that costs is part of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ganinv.codes.code import Code, HeadCode
from ganinv.codes.parts import Head
from ganinv.errors import NotFinite
from ganinv.records.record import RecordConfig, decode, encode

Measured = tuple[float, float]
"""(mse, distance) of the rendering of a code to its image."""
Measure = Callable[[Code, Sequence[int]], Sequence[Measured]]
"""Renders codes (on the CPU) and compares each with its image, which the numbers tell: the k-th of those to be stored."""
Form = tuple[str | None, bytes | None]
"""Name of a form (``RecordConfig.name``), and the extras in it."""


@dataclass(frozen=True)
class Record:
    """The code of one image as it is stored.

    Args:
        w: [num_ws, w_dim] float32 on the CPU. extras: the safetensors object beside it, None without extras.
        form: ``RecordConfig.name`` of the form that was kept; None without extras.
        mse, distance: of the rendering from this form; None where nothing was rendered.
    """

    w: Tensor
    extras: bytes | None
    form: str | None
    mse: float | None
    distance: float | None


@dataclass
class ToStore:
    """A code of one image on its way to its record.

    Args:
        forms: to be tried, from compact to exact. limit: the largest distance that is good enough; None takes the first.
        mse, distance: of the code itself; None where they were not measured.
    """

    code: Code
    forms: Iterator[Form]
    limit: float | None = None
    mse: float | None = None
    distance: float | None = None


def verified(
    codes: Sequence[Code],
    measured: Sequence[Measured | None],
    config: RecordConfig,
    measure: Measure,
) -> list[Record | NotFinite]:
    """The records of codes of one image each: in the configured form, or in a more precise one where that is clearly worse.

    All are rendered together: once where the first form is good, and not at all where ``w`` is all that a code has, which is
    stored exactly.

    Args:
        measured: of the codes themselves, as the method measured them. None where it did not: nothing is rendered then
            for a form that only rounds (float16, by one part in two thousand), and one that leaves something out
            (int8, low-rank) is compared with the code, which is measured here.

    Returns:
        In the place of a code with an extra that holds NaN or infinity, what is wrong with it.
    """
    records: dict[int, Record | NotFinite] = {}
    waiting: dict[int, ToStore] = {}
    for k, (code, known) in enumerate(zip(codes, measured, strict=True)):
        try:
            extras = encode(code, config)
        except NotFinite as refused:
            records[k] = refused
            continue
        mse, distance = known or (None, None)
        if extras is None or (known is None and config.rounds_only):
            records[k] = Record(w_of(code), extras, None if extras is None else config.name, mse, distance)
        else:
            waiting[k] = ToStore(code, _forms(code, config, extras), None, mse, distance)
    unknown = [k for k, each in waiting.items() if each.distance is None]
    if unknown:
        for k, found in zip(unknown, measure(Code.cat([codes[k] for k in unknown]), unknown), strict=True):
            waiting[k].mse, waiting[k].distance = found
    if config.max_rise is not None:
        for each in waiting.values():
            assert each.distance is not None
            each.limit = each.distance * (1 + config.max_rise)
    records |= first_good(waiting, measure)
    return [records[k] for k in range(len(codes))]


def first_good(codes: Mapping[int, ToStore], measure: Measure) -> dict[int, Record]:
    """Of each code the first form whose distance is at most its limit, else its last. Forms are rendered together."""
    records: dict[int, Record] = {}
    waiting = dict(codes)
    while waiting:
        tried = {}
        for k, each in list(waiting.items()):
            form = next(each.forms, None)
            if form is None or form[1] is None:  # the form before was the last
                del waiting[k]
            else:
                tried[k] = form
        if not tried:
            break
        read = [Code(_batch_of(waiting[k].code), **decode(form[1] or b"")).with_heads(heads_of(waiting[k].code))
                for k, form in tried.items()]  # fmt: skip
        for (k, (name, extras)), (mse, distance) in zip(
            tried.items(), measure(Code.cat(read), list(tried)), strict=True
        ):
            records[k] = Record(w_of(waiting[k].code), extras, name, mse, distance)
            limit = waiting[k].limit
            if limit is None or distance <= limit:  # False for NaN
                del waiting[k]
    return records


def w_of(code: Code) -> Tensor:
    """[num_ws, w_dim] float32 on the CPU, of a code of one image."""
    return _batch_of(code)[0]


def heads_of(code: Code) -> dict[str, Head]:
    """The hypernetwork heads that a code carries; files do not hold them."""
    deltas = {**(code.weights or {}), **(code.scales or {})}
    return {name: d.head for name, d in deltas.items() if isinstance(d, HeadCode) and d.head is not None}


def _forms(code: Code, config: RecordConfig, first: bytes) -> Iterator[Form]:
    """The configured form, which is there already, and the more precise ones, encoded when they are asked for."""
    yield config.name, first
    for each in config.and_safer()[1:]:
        yield each.name, encode(code, each)


def _batch_of(code: Code) -> Tensor:
    return code.w.detach().cpu().float()
