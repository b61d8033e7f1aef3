"""Tensors and arrays as a file describes them: checked against the bytes that hold them, and read only when needed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.reading.limits import MAX_DIMENSIONS
from ganinv.reading.source import Span, aligned
from ganinv.reading.stub import brief

DTYPES: dict[str, torch.dtype] = {n: d for n in dir(torch) if isinstance(d := getattr(torch, n), torch.dtype)}
# Classes of torch and torch.cuda that name the type of a storage.
STORAGE_DTYPES: dict[str, torch.dtype] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
    "_UntypedStorage": torch.uint8,
}
_PLAIN_NUMPY = re.compile(r"[<>=|]?(\?|[biufcSU][0-9]{1,9})")
_SPREAD = 16  # a view may span this many times its own size
_BUFFER = 1 << 20  # bytes; fits into a processor's cache
_FLOATS = {torch.float16: "f2", torch.float32: "f4", torch.float64: "f8"}


class Storage:
    """A flat piece of memory that tensors are views of. ``span`` is unknown until the container says where it is."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        if type(count) is not int or not 0 <= count < 2**48:
            raise WeightsRefused(f"a tensor storage claims {brief(count)} elements")
        self.dtype = dtype
        self.count = count
        self.span: Span | None = None
        self.swapped = False  # written on a big-endian machine

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize

    def place(self, span: Span, swapped: bool = False) -> None:
        if span.size != self.nbytes:
            raise WeightsRefused(
                f"a tensor storage of {self.nbytes} bytes has {span.size} bytes in the file: incomplete"
            )
        self.span, self.swapped = span, swapped


class StoredTensor:
    """A tensor in a file: shape and type are known, the values are read by ``load``. Always opens on the CPU."""

    def __init__(
        self,
        storage: Storage,
        offset: int,
        shape: Sequence[int],
        stride: Sequence[int],
        dtype: torch.dtype | None = None,
    ) -> None:
        self.storage = storage
        self.dtype = dtype or storage.dtype
        self.shape = lengths(shape, "shape")
        self.stride = lengths(stride, "stride")
        (self.offset,) = lengths((offset,), "offset")
        if len(self.shape) != len(self.stride):
            raise WeightsRefused(f"a tensor of shape {self.shape} has {len(self.stride)} strides")
        itemsize = self.dtype.itemsize
        if (self.offset + self.extent) * itemsize > storage.nbytes:
            raise WeightsRefused(f"a tensor of shape {self.shape} reaches beyond its storage of {storage.nbytes} bytes")
        if self.numel * itemsize > storage.nbytes:
            raise WeightsRefused(f"a tensor of shape {self.shape} repeats a storage of only {storage.nbytes} bytes")
        if self.extent > _SPREAD * self.numel + 2**16:
            raise WeightsRefused(f"a tensor of shape {self.shape} is spread over {self.extent * itemsize} bytes")

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Number of elements from the first to the last one of the view, including those between."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))

    @property
    def nbytes(self) -> int:
        """Memory that ``load`` takes, in bytes."""
        return self.extent * self.dtype.itemsize

    def load(self) -> Tensor:
        """The values, in newly allocated memory."""
        raw = torch.empty(self.nbytes, dtype=torch.uint8)
        self._bytes().read_into(raw.numpy().data)
        if self.storage.swapped:
            _swap(raw, self.dtype)
        flat = raw.ne(0) if self.dtype == torch.bool else raw.view(self.dtype)
        return flat.as_strided(self.shape, self.stride)

    def reads_into(self, target: Tensor) -> bool:
        """Whether ``read_into`` can fill ``target``: elements in row order, a floating-point type that numpy has, on the
        CPU."""
        step = 1
        for length, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if length != 1 and stride != step:
                return False
            step *= length
        known = self.dtype in _FLOATS and target.dtype in _FLOATS
        return known and self.numel == target.numel() and target.device.type == "cpu"

    def read_into(self, target: Tensor) -> None:
        """Fill ``target``, for which ``reads_into`` is true: directly if it has the same type as the file, else through a
        buffer.

        The buffer is small, because touching memory for the first time costs more than reading into it.
        """
        if not self.numel:
            return
        own = np.atleast_1d(target.detach().numpy())
        dtype = np.dtype(_FLOATS[self.dtype]).newbyteorder(">" if self.storage.swapped else "=")
        data = self._bytes()
        if own.flags.c_contiguous and own.dtype == dtype:
            data.read_into(own.data)
            return
        row = own[0].size * dtype.itemsize
        step = max(_BUFFER // row, 1)
        buffer = aligned(min(step, len(own)) * row)
        for start in range(0, len(own), step):
            rows = own[start : start + step]
            raw = buffer[: len(rows) * row]
            data.sub(start * row, len(raw)).read_into(raw.data)
            with np.errstate(over="ignore"):  # the caller looks for infinity
                np.copyto(rows, raw.view(dtype).reshape(rows.shape))

    def _bytes(self) -> Span:
        if self.storage.span is None:
            raise WeightsRefused(f"the data of a tensor of shape {self.shape} are missing: the file is incomplete")
        return self.storage.span.sub(self.offset * self.dtype.itemsize, self.nbytes)

    def __repr__(self) -> str:
        return f"<stored tensor {list(self.shape)} {self.dtype}>"


class NumpyType:
    """A pickled ``numpy.dtype``: made from its code, then given its byte order. Only plain numbers and text are allowed."""

    def __init__(self, code: object) -> None:
        if isinstance(code, NumpyType):
            self.dtype: np.dtype[Any] = code.dtype
            return
        name = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(name, str) or not _PLAIN_NUMPY.fullmatch(name):
            raise WeightsRefused(f"a numpy array of type {brief(name)} is not read: only plain numbers and text are")
        self.dtype = np.dtype(name)

    def set_state(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order == ">":
            self.dtype = self.dtype.newbyteorder(">")

    def scalar(self, data: bytes) -> Any:
        """One value as a plain Python number or text."""
        if len(data) != self.dtype.itemsize:
            raise WeightsRefused(f"a numpy number of type {self.dtype} has {len(data)} bytes")
        return np.frombuffer(data, self.dtype)[0].item()


class StoredArray:
    """A pickled numpy array: the pickle first makes it empty; the state that follows gives shape, type and bytes."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.fortran = False
        self.data: bytes | Span = b""

    def set_state(self, state: Any) -> None:
        """``state`` as ndarray.__reduce__ gives it: (version, shape, dtype, is_fortran, data)."""
        shape, dtype, fortran, data = state[-4:]
        if not isinstance(dtype, NumpyType):
            raise WeightsRefused("a numpy array comes without its type")
        if not isinstance(data, bytes | Span):
            raise WeightsRefused("a numpy array holds Python objects; only plain numbers are read")
        self.shape, self.dtype, self.fortran, self.data = lengths(shape, "shape"), dtype.dtype, fortran is True, data
        if math.prod(self.shape) * self.dtype.itemsize != len(data):
            raise WeightsRefused(f"a numpy array of shape {self.shape} and type {self.dtype} has {len(data)} bytes")

    def at(self, *index: int) -> StoredArray:
        """``array[index]``, which is a range of its bytes. The array must not be in Fortran's order."""
        assert not self.fortran
        inner = self.shape[len(index) :]
        size = math.prod(inner) * self.dtype.itemsize
        start = int(np.ravel_multi_index(index, self.shape[: len(index)])) * size
        out = StoredArray()
        data = self.data.sub(start, size) if isinstance(self.data, Span) else self.data[start : start + size]
        out.shape, out.dtype, out.data = inner, self.dtype, data
        return out

    def load(self) -> np.ndarray[Any, Any]:
        """The values in native byte order, in newly allocated memory."""
        raw = aligned(len(self.data))
        if isinstance(self.data, Span):
            self.data.read_into(raw.data)
        else:
            raw[:] = np.frombuffer(self.data, np.uint8)
        flat = raw.view(self.dtype)
        out = flat.reshape(self.shape, order="F" if self.fortran else "C")
        return out.astype(out.dtype.newbyteorder("="), copy=False)

    def __repr__(self) -> str:
        return f"<stored array {list(self.shape)} {self.dtype}>"


def lengths(values: Any, what: str) -> tuple[int, ...]:
    """Integers from a file as a tuple; refused if there are too many or they are too large."""
    if not isinstance(values, tuple | list) or len(values) > MAX_DIMENSIONS:
        raise WeightsRefused(f"a tensor's {what} is not a list of at most {MAX_DIMENSIONS} integers")
    for value in values:
        if type(value) is not int or not 0 <= value < 2**40:
            raise WeightsRefused(f"a tensor's {what} holds {brief(value)}, expected integers from 0 to 2^40")
    return tuple(values)


def _swap(raw: Tensor, dtype: torch.dtype) -> None:
    size = dtype.itemsize // (2 if dtype.is_complex else 1)
    if size > 1:
        raw.numpy().view(f"u{size}").byteswap(inplace=True)
