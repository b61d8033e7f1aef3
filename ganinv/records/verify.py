"""Verify on write: codes are rendered from the bytes that will be stored, and the cost of storing them is part of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ganinv.codes.code import Code, HeadCode
from ganinv.codes.parts import Head
from ganinv.errors import NotFinite
from ganinv.records.record import RecordConfig, decode, encode

Measured = tuple[float, float]
"""(mse, distance) of the rendering of a code to its image."""
Measure = Callable[[Code, Sequence[int]], Sequence[Measured]]
"""Renders a batch of codes (on the CPU) and compares each with its image. The numbers say which codes of the batch they are."""
Form = tuple[str | None, bytes | None]
"""Name of a form (``RecordConfig.name``), and the extras in it."""


@dataclass(frozen=True)
class Record:
    """The code of one image as it is stored.

    Args:
        w: [num_ws, w_dim] float32 on the CPU. extras: the safetensors object beside it, None without extras.
        form: ``RecordConfig.name`` of the form that was kept; None without extras.
        mse, distance: of the rendering from this form; None if nothing was rendered.
    """

    w: Tensor
    extras: bytes | None
    form: str | None
    mse: float | None
    distance: float | None


@dataclass(frozen=True)
class Candidates:
    """The forms in which the code of one image may be stored.

    Args:
        forms: in the order of preference, from compact to exact.
        limit: the largest acceptable distance; None accepts the first form.
    """

    code: Code
    forms: Iterable[Form]
    limit: float | None = None


def verified(
    codes: Sequence[Code],
    measured: Sequence[Measured | None],
    config: RecordConfig,
    measure: Measure,
) -> list[Record | NotFinite]:
    """Encode codes of one image each: in the configured form, or in a more precise one if that renders clearly worse.

    All codes are rendered together, and only once if the first form is good enough. A code that is nothing but ``w`` is stored
    exactly and never rendered.

    Args:
        measured: the method's own measurement of each code, or None. Without it, a form that only rounds (float16, by one
            part in two thousand) is stored unrendered; one that drops information (int8, low-rank) is compared with the
            code, which is then measured here.

    Returns:
        One record per code, or the error for a code whose extras hold NaN or infinity.
    """
    records: dict[int, Record | NotFinite] = {}
    waiting: dict[int, Iterator[Form]] = {}
    known_distance: dict[int, float] = {}
    for k, (code, known) in enumerate(zip(codes, measured, strict=True)):
        try:
            extras = encode(code, config)
        except NotFinite as refused:
            records[k] = refused
            continue
        if extras is None or (known is None and config.rounds_only):
            mse, distance = known or (None, None)
            records[k] = Record(w_of(code), extras, None if extras is None else config.name, mse, distance)
            continue
        waiting[k] = _forms(code, config, extras)
        if known is not None:
            known_distance[k] = known[1]
    unknown = [k for k in waiting if k not in known_distance]
    if unknown:
        found = measure(Code.cat([codes[k] for k in unknown]), unknown)
        known_distance |= {k: distance for k, (_, distance) in zip(unknown, found, strict=True)}
    candidates = {k: Candidates(codes[k], forms, config.limit(known_distance[k])) for k, forms in waiting.items()}
    records |= first_good(candidates, measure)
    return [records[k] for k in range(len(codes))]


def first_good(codes: Mapping[int, Candidates], measure: Measure) -> dict[int, Record]:
    """For each code, the first form whose distance is within its limit, else its last form. Forms are rendered together."""
    records: dict[int, Record] = {}
    waiting = dict(codes)
    forms = {k: iter(each.forms) for k, each in codes.items()}
    while waiting:
        tried = {}
        for k in list(waiting):
            form = next(forms[k], None)
            if form is None or form[1] is None:  # the previous form was the last
                del waiting[k]
            else:
                tried[k] = form
        if not tried:
            break
        read = [Code(w_of(waiting[k].code)[None], **decode(form[1] or b"")).with_heads(heads_of(waiting[k].code))
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
    return code.w[0].detach().cpu().float()


def heads_of(code: Code) -> dict[str, Head]:
    """The hypernetwork heads that a code carries. Files do not hold them."""
    deltas = {**(code.weights or {}), **(code.scales or {})}
    return {name: d.head for name, d in deltas.items() if isinstance(d, HeadCode) and d.head is not None}


def _forms(code: Code, config: RecordConfig, first: bytes) -> Iterator[Form]:
    """The configured form, already encoded, then the more precise ones, each encoded only when it is reached."""
    yield config.name, first
    for each in config.and_safer()[1:]:
        yield each.name, encode(code, each)
