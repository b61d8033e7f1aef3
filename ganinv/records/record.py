"""The extras of one image as bytes: safetensors in half precision, as integers with a step, or reduced to low rank."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.numpy import save
from safetensors.torch import load
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.codes.truncation import compress
from ganinv.config import StrictModel
from ganinv.errors import NotFinite
from ganinv.generators.integers import INT8, STEP, as_integers
from ganinv.records.extra_tensors import flatten, unflatten

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.float16}
_METADATA = {"ganinv": "extras 1"}  # one key only: safetensors does not order them


class RecordConfig(StrictModel):
    """How precisely the extras of an image are stored. ``w`` is always float32.

    In bytes per image, of PTI at 1024 pixels (28.3 million weights): 113 MB as float32, 56.5 MB as float16, 28.3 MB as
    int8; at rank 8, convolutions only, 0.96 MB as float16.
    """

    form: Literal["as-is", "low-rank"] = "as-is"
    """``as-is`` keeps weight offsets dense or low-rank, as the method made them; ``low-rank`` cuts dense ones."""
    dtype: Literal["float32", "float16", "int8"] = "float16"
    """``float16`` rounds by at most 5e-4 of a number. ``int8`` holds for weight offsets, by at most half a step: a row of
    the offset (an output channel) has one step, its largest number over 127; so has each component of a low-rank one.
    Tensors without rows to share a step, and extras that are not weight offsets, are then stored in float16."""
    error: float = Field(0.2, ge=0, lt=1)
    """``low-rank``: relative Frobenius error that each tensor may have. Deltas of dense tuning on the embedded generator
    need nearly their full rank for 0.1, and a quarter of their numbers for 0.3; see ``benchmarks/inversion/records.py``."""
    max_rank: int | None = Field(None, ge=1)
    """``low-rank``: no tensor gets more, whatever its error."""
    max_rise: float | None = Field(0.05, ge=0)
    """If a form renders at a distance of more than (1 + this) times the method's, the next more precise form is stored
    instead. None accepts any."""

    @property
    def name(self) -> str:
        """In the column ``stored_form``: ``float16``, ``int8``, ``low-rank float16``, ..."""
        return self.dtype if self.form == "as-is" else f"{self.form} {self.dtype}"

    @property
    def rounds_only(self) -> bool:
        """Whether every number is kept, at most rounded as float16 does."""
        return self.form == "as-is" and self.dtype != "int8"

    def limit(self, distance: float) -> float | None:
        """The largest acceptable distance of a stored code whose own distance is given; None if any is (``max_rise``)."""
        return None if self.max_rise is None else distance * (1 + self.max_rise)

    def and_safer(self) -> list[RecordConfig]:
        """This configuration and its fallbacks, from compact to exact."""
        closer = {"error": self.error / 2, "max_rank": self.max_rank and 2 * self.max_rank}
        tighter = [self.model_copy(update=closer)] if self.form == "low-rank" else []
        exact = [RecordConfig(dtype=dtype) for dtype in ("float16", "float32")]
        return [self, *tighter, *exact[{"float16": 1, "float32": 2}.get(self.name, 0) :]]


def encode(code: Code, record: RecordConfig | None = None) -> bytes | None:
    """The extras of a code of one image as a safetensors object; None when ``w`` is all it has. Zeros are left out.

    A tensor that would overflow in float16, and a hypernetwork's code, stay float32.

    Raises:
        NotFinite: an extra holds NaN or infinity.
    """
    record = record or RecordConfig()
    given = flatten(code.detach().to("cpu"))
    for name, tensor in given.items():
        if not math.isfinite(_largest(tensor)):
            count = int((~torch.isfinite(tensor)).sum())
            raise NotFinite(
                f"{name} cannot be stored: expected finite numbers, {count} of {tensor.numel()} are NaN or infinite; "
                "lower the learning rate of the stage that made it, or check the image"
            )
    if record.form == "low-rank":
        code, _ = compress(code.detach().to("cpu"), error=record.error, rank=record.max_rank)
        given = flatten(code)
    tensors: dict[str, Tensor] = {}
    for name, tensor in given.items():
        tensors |= _stored(name, tensor, record.dtype)
    # What is written is the memory, in the order in which it lies.
    return save({name: tensor.contiguous().numpy() for name, tensor in tensors.items()}, _METADATA) if tensors else None


def decode(data: bytes) -> dict[str, Any]:
    """The inverse of :func:`encode`: keyword arguments of ``Code``, float32. An int8 tensor is integers times steps.

    Raises:
        ValueError, safetensors.SafetensorError: not an object of ``encode``.
    """
    loaded = load(data)
    tensors = {name: tensor if tensor.dtype == torch.uint8 else tensor.float() for name, tensor in loaded.items()}
    for name in [name for name in tensors if name.endswith(f".{INT8}")]:
        base = name.removesuffix(f".{INT8}")
        if f"{base}.{STEP}" not in tensors:
            raise ValueError(f"{name} needs {base}.{STEP}")
        tensors[base] = tensors.pop(name) * tensors.pop(f"{base}.{STEP}")
    if left := [name for name in tensors if name.endswith(f".{STEP}")]:
        raise ValueError(f"{left[0]} has no integers")
    return unflatten(tensors)


def _stored(name: str, value: Tensor, dtype: str) -> dict[str, Tensor]:
    if value.dtype == torch.uint8:  # the bytes of a file (ganinv.records.segment_tensors)
        return {name: value}
    if dtype == "int8" and (dims := _row_dims(name, value)):
        return as_integers(name, value.float(), dims)
    # A hypernetwork's code is small and its rounding would be multiplied.
    kind = torch.float32 if name.endswith((".code", ".passes")) else _DTYPES[dtype]
    if _largest(value) > torch.finfo(kind).max:
        kind = torch.float32
    return {name: value.to(kind)}


def _largest(value: Tensor) -> float:
    """The largest magnitude: NaN or infinity if one of the numbers is. A single pass, as each tensor of each image has one."""
    return float(value.abs().max()) if value.numel() else 0.0


def _row_dims(name: str, value: Tensor) -> tuple[int, ...]:
    """Dimensions over which a step is shared; none when integers and steps would be no smaller than float16."""
    if not name.startswith(("weights.", "scales.")) or name.endswith((".code", ".passes")):
        return ()
    # left [1, O, r]: a component is a column. right [1, r, N] and dense offsets [1, O, ...]: a row.
    dims = (1,) if name.endswith(".left") else tuple(range(2, value.ndim))
    return dims if math.prod(value.shape[d] for d in dims) > _STEP_BYTES else ()


_STEP_BYTES = 4
"""A step is a float32: shared by n integers, a number takes 1 + 4 / n bytes, and 2 as float16."""
