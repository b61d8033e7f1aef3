"""Tensors and plain attributes of modules that were pickled whole, NVIDIA's persistent ones included."""

from __future__ import annotations

from typing import Any

from ganinv.errors import WeightsRefused
from ganinv.generators.formats.parts import Leaf, StateDict
from ganinv.reading.stub import Stub, brief
from ganinv.reading.tensors import StoredTensor

_PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
_MAX_DEPTH = 32
_MAX_ENTRIES = 100_000


def is_module(node: Any) -> bool:
    """Whether a stub stands for a torch module."""
    if not isinstance(node, Stub):
        return False
    state = _unwrap(node)[1]
    return isinstance(state.get("_modules"), dict) and isinstance(state.get("_parameters"), dict)


def state_of_module(module: Stub) -> StateDict:
    """All tensors by their dotted names, and each submodule's plain attributes by its path."""
    tensors: dict[str, Leaf] = {}
    attributes: dict[str, dict[str, Any]] = {}

    def walk(node: Any, prefix: str, depth: int) -> None:
        if node is None:
            return
        if not is_module(node):
            raise WeightsRefused(f"module {prefix[:80]!r} is {brief(node)}, expected a torch module")
        if depth > _MAX_DEPTH or len(attributes) + len(tensors) > _MAX_ENTRIES:
            raise WeightsRefused(f"modules inside modules, more than {_MAX_DEPTH} deep or {_MAX_ENTRIES} in all")
        state = _unwrap(node)[1]
        plain = {k: v for k, v in state.items() if isinstance(k, str) and not k.startswith("_")}
        attributes[prefix.removesuffix(".")] = plain
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (state.get(kind) or {}).items():
                if isinstance(tensor, StoredTensor):
                    tensors[f"{prefix}{name}"] = tensor
        for name, child in state["_modules"].items():
            walk(child, f"{prefix}{name}.", depth + 1)

    walk(module, "", 0)
    return StateDict(tensors, attributes, _unwrap(module)[0])


def _unwrap(node: Stub) -> tuple[str, dict[Any, Any]]:
    """Class name and state: of a persistent object they lie in the argument of its reconstruction."""
    if node.cls == _PERSISTENT and node.args and isinstance(node.args[0], dict):
        meta = node.args[0]
        state, name = meta.get("state"), meta.get("class_name")
        return (name[:60] if isinstance(name, str) else "", state if isinstance(state, dict) else {})
    return node.cls.rsplit(".", 1)[-1], node.attributes
