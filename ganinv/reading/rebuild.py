"""The closed list of names that a pickle may call. Each stands for a function of ours; the name itself is never looked up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ganinv.errors import WeightsRefused
from ganinv.reading.limits import Budget
from ganinv.reading.source import Span
from ganinv.reading.stub import GlobalName, Stub
from ganinv.reading.tensors import DTYPES, STORAGE_DTYPES, NumpyType, Storage, StoredArray, StoredTensor

_SIZED = (str, bytes, list, tuple, dict, set, frozenset)


class Known:
    """A name with a function of ours behind it."""

    def __init__(self, path: str, build: Callable[..., Any]) -> None:
        self.path = path
        self.build = build

    def __repr__(self) -> str:
        return f"<known name {self.path}>"


class Rebuild:
    """The names of one file, including nested pickles.

    Args:
        load_nested: opens the bytes of a ``torch.save`` inside the pickle.
    """

    def __init__(self, budget: Budget, load_nested: Callable[[bytes | Span], Any]) -> None:
        self.budget = budget
        self._load_nested = load_nested
        self._nested: dict[tuple[int, int, int], Any] = {}
        self._known = {path: Known(path, build) for path, build in self._table().items()}

    def find(self, module: str, name: str) -> Any:
        """The object that stands for ``module.name`` while the pickle is built."""
        path = f"{module}.{name}"
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module in ("torch", "torch.cuda", "torch.storage") and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        return self._known.get(path) or GlobalName(module, name)

    def call(self, function: Any, args: Any, kwargs: dict[Any, Any] | None = None) -> Any:
        """The object that ``function(*args)`` would have made, or a stub of it."""
        if not isinstance(args, tuple):
            raise WeightsRefused("damaged: a call without its arguments")
        if isinstance(function, Known):
            # What it is given it may copy, and a pickle can hand the same long list to a call again and again.
            self.budget.copy(len(args) + len(kwargs or ()) + sum(len(a) for a in args if isinstance(a, _SIZED)))
            return function.build(*args, **(kwargs or {}))
        if isinstance(function, GlobalName):
            function.refuse_call()
            return Stub(function.path, args, kwargs)
        return Stub(getattr(function, "path", type(function).__name__), args, kwargs)

    def check_key(self, key: Any) -> Any:
        """Accept a key only if its hash is quick to compute and cannot be made to collide with many others."""
        if key is None or type(key) in (str, bytes, bool, float, Known, GlobalName, Stub, StoredTensor):
            return key
        if type(key) is int and -(2**61) < key < 2**61:
            return key
        if type(key) is tuple and len(key) <= 8 and all(type(k) in (str, int, bool, float, bytes) for k in key):
            self.budget.tuple_key()
            return tuple(self.check_key(k) for k in key)
        raise WeightsRefused(f"a dictionary or set with a key of type {type(key).__name__}")

    def fill(self, target: dict[Any, Any], pairs: Any) -> dict[Any, Any]:
        for pair in pairs:
            key, value = pair
            target[self.check_key(key)] = value
        return target

    def _table(self) -> dict[str, Callable[..., Any]]:
        table: dict[str, Callable[..., Any]] = {
            "_codecs.encode": _encode,
            "torch.storage._load_from_bytes": self._nested_storage,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
            "torch._utils._rebuild_tensor": _tensor,
            "torch._utils._rebuild_tensor_v2": lambda storage, offset, shape, stride, *_: _tensor(
                storage, offset, shape, stride
            ),
            "torch._utils._rebuild_tensor_v3": lambda storage, offset, shape, stride, _grad, _hooks, dtype, *_: _tensor(
                storage, offset, shape, stride, dtype
            ),
            "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
            "torch.nn.parameter.Parameter": lambda data, *_: data,
            "torch.Size": lambda values=(): tuple(_sequence(values)),
            "numpy.dtype": lambda code, *_: NumpyType(code),
            "numpy.ndarray": lambda *_: StoredArray(),
        }
        for core in ("numpy.core", "numpy._core"):
            table[f"{core}.multiarray._reconstruct"] = lambda *_: StoredArray()
            table[f"{core}.multiarray.scalar"] = _scalar
            table[f"{core}.numeric._frombuffer"] = _from_buffer
        for path in ("collections.OrderedDict", "dnnlib.util.EasyDict", "dnnlib.EasyDict", "easydict.EasyDict"):
            table[path] = self._mapping
        table["collections.defaultdict"] = lambda *_: {}
        for builtins in ("builtins", "__builtin__"):
            table |= {
                f"{builtins}.dict": self._mapping,
                f"{builtins}.list": lambda values=(): _sequence(values),
                f"{builtins}.tuple": lambda values=(): tuple(_sequence(values)),
                f"{builtins}.set": lambda values=(): {self.check_key(v) for v in _sequence(values)},
                f"{builtins}.frozenset": lambda values=(): frozenset(self.check_key(v) for v in _sequence(values)),
                f"{builtins}.bytearray": lambda data=b"", *_: _raw(data),
                f"{builtins}.complex": lambda real=0.0, imag=0.0: complex(float(real), float(imag)),
            }
        for registry in ("copyreg", "copy_reg"):
            table[f"{registry}._reconstructor"] = self._reconstruct
        return table

    def _mapping(self, pairs: Any = (), *_: Any, **entries: Any) -> dict[Any, Any]:
        if isinstance(pairs, dict):
            pairs = list(pairs.items())
        return self.fill(self.fill({}, _sequence(pairs)), entries.items())

    def _reconstruct(self, cls: Any, _base: Any = None, state: Any = None) -> Any:
        """The way in which protocols 0 and 1 make an instance."""
        made = self.call(cls, ())
        if isinstance(made, Stub) and state is not None:
            made.args = (state,)
        return made

    def _nested_storage(self, data: Any) -> Any:
        if not isinstance(data, bytes | Span):
            raise WeightsRefused("damaged: a tensor storage that is not a byte string")
        # The same bytes give the same storage, however often the pickle refers to them.
        key = (id(data.source), data.start, data.size) if isinstance(data, Span) else (0, id(data), len(data))
        if key not in self._nested:
            self._nested[key] = (data, self._load_nested(data))  # data stays alive, and with it its id
        return self._nested[key][1]


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, dtype: Any = None) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise WeightsRefused(f"damaged: a tensor over {type(storage).__name__}, expected a storage")
    if dtype is not None and dtype not in DTYPES.values():
        raise WeightsRefused("damaged: a tensor of unknown type")
    return StoredTensor(storage, offset, shape, stride, dtype)


def _tensor_of_type(function: Any, _type: Any, args: Any, _state: Any) -> Any:
    """A tensor with attributes, or of a subclass: only the tensor is kept."""
    if isinstance(function, Known) and function.path.startswith("torch._utils._rebuild_"):
        return function.build(*args)
    return Stub(getattr(function, "path", "torch.Tensor"), args if isinstance(args, tuple) else ())


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if not isinstance(dtype, NumpyType) or not isinstance(data, bytes):
        raise WeightsRefused("damaged: a numpy number without its type or bytes")
    return dtype.scalar(data)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> StoredArray:
    """An array in the form of protocol 5."""
    out = StoredArray()
    out.set_state((shape, dtype, order == "F", data))
    return out


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """The way in which protocols 0 to 2 write bytes: as text that has to be encoded."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "iso-8859-1", "utf-8", "ascii"):
        raise WeightsRefused("damaged: bytes written in an unknown encoding")
    return text.encode(encoding)


def _raw(data: Any) -> bytes | Span:
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | Span):
        raise WeightsRefused("damaged: a bytearray that is not made of bytes")
    return data


def _sequence(values: Any) -> list[Any]:
    if not isinstance(values, list | tuple | set | frozenset):
        raise WeightsRefused(f"damaged: a container made from {type(values).__name__}")
    return list(values)
