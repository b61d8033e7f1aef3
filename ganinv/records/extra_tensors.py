"""The extras of one image as named tensors and back.

Names: ``noise.3``, ``const``, ``z``, ``padding.2``, ``styles.convs.3``, ``style_values.convs.3``, ``weights.convs.3.weight``,
``scales.convs.3.weight``, ``features.block[4].add``, ``features.act[7].film.scale``; a value of several tensors has one name
for each, such as ``weights.convs.3.weight.left`` or ``noise.3.mask``. Segments: see ``ganinv.records.segment_tensors``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ganinv.codes.code import Code, Feature, HeadCode, LowRank, Masked
from ganinv.generators.integers import INT8, STEP
from ganinv.records.segment_tensors import PREFIX, flatten_segments, unflatten_segments

_PARTS = ("left", "right", "code", "passes", "value", "kept", "mask")
_RESERVED = (*_PARTS, INT8, STEP)
_OPERATIONS = ("add", "replace", "image")
_BY_NUMBER = ("noise", "padding")
_BY_NAME = ("styles", "style_values", "weights", "scales")


def flatten(code: Code) -> dict[str, Tensor]:
    """Tensors of a code of one image, without ``w`` and without what changes nothing (zero offsets, empty masks)."""
    if len(code) != 1:
        raise ValueError(f"extras are stored image by image, got a code of {len(code)}")
    out: dict[str, Tensor] = {}
    for field in (*_BY_NUMBER, *_BY_NAME):
        for key, value in (getattr(code, field) or {}).items():
            if field in _BY_NAME and key.rpartition(".")[2] in _RESERVED:
                raise ValueError(f"Code.{field}[{key!r}] cannot be stored: a name cannot end with one of {_RESERVED}")
            out |= dict(_leaf(f"{field}.{key}", value, offset=field not in ("noise", "style_values")))
    out |= dict(_leaf("const", code.const, offset=False))
    out |= dict(_leaf("z", code.z, offset=False))
    for site, feature in (code.features or {}).items():
        name = f"features.{site}"
        if feature.film is not None and any(map(torch.count_nonzero, feature.film)):
            out |= {f"{name}.film.scale": feature.film[0], f"{name}.film.shift": feature.film[1]}
        for operation in _OPERATIONS:
            out |= dict(_leaf(f"{name}.{operation}", getattr(feature, operation), offset=operation == "add"))
    return out if code.segments is None else out | flatten_segments(code.segments)


def unflatten(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of :func:`flatten`: keyword arguments of ``Code``.

    Raises:
        ValueError: a name that ``flatten`` does not give, or one of a pair without the other.
    """
    of_segments = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in sorted(tensors.items()):  # safetensors gives them in no certain order
        if name in of_segments:
            continue
        base, _, last = name.rpartition(".")
        if last in _PARTS and base:
            parts.setdefault(base, {})[last] = tensor
        else:
            parts.setdefault(name, {})[""] = tensor
    fields: dict[str, Any] = {"segments": unflatten_segments(of_segments)} if of_segments else {}
    features: dict[str, dict[str, Any]] = {}
    for name, given in parts.items():
        value = _value(name, given)
        field, _, key = name.partition(".")
        if field in _BY_NUMBER:
            fields.setdefault(field, {})[int(key)] = value
        elif field in _BY_NAME and key:
            fields.setdefault(field, {})[key] = value
        elif name in ("const", "z"):
            fields[name] = value
        elif field == "features":
            site, _, operation = key.partition(".")
            features.setdefault(site, {})[operation] = value
        else:
            raise ValueError(f"unexpected tensor {name!r}")
    if features:
        fields["features"] = {site: _feature(site, operations) for site, operations in features.items()}
    return fields


def _leaf(name: str, value: Any, *, offset: bool) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one value. ``offset``: it is added somewhere, so a zero changes nothing."""
    if isinstance(value, Masked):
        yield from _masked(name, value, offset)
    elif isinstance(value, Tensor):
        if not offset or value.any():
            yield name, value
    elif isinstance(value, LowRank):
        if value.left.any() and value.right.any():
            yield f"{name}.left", value.left
            yield f"{name}.right", value.right
    elif isinstance(value, HeadCode) and (value.code.any() or value.passes.any()):
        yield f"{name}.code", value.code
        yield f"{name}.passes", value.passes


def _masked(name: str, given: Masked, offset: bool) -> Iterator[tuple[str, Tensor]]:
    value, mask = given.value, given.mask
    if mask is None or bool((mask == 1).all()):
        yield from _leaf(name, value, offset=offset)
    elif mask.any():
        where = _support(mask)
        # Corrections of image regions (SAM inversion): most pixels of the map are not used.
        sparse = value.ndim == 4 and mask.shape[2:] == value.shape[2:] and 2 * int(where.sum()) < where.numel()
        yield (f"{name}.kept", value[:, :, where]) if sparse else (f"{name}.value", value)
        yield f"{name}.mask", mask


def _support(mask: Tensor) -> Tensor:
    """[r, r]: where a mask [1, 1, r, r] is not zero, also once it is stored in float16."""
    return mask[0, 0].half() > 0


def _value(name: str, parts: Mapping[str, Tensor]) -> Tensor | LowRank | HeadCode | Masked:
    match sorted(parts):
        case [""]:
            return parts[""]
        case ["left", "right"]:
            return LowRank(parts["left"], parts["right"])
        case ["code", "passes"]:
            return HeadCode(parts["code"], parts["passes"])
        case ["mask", "value"]:
            return Masked(parts["value"], parts["mask"])
        case ["kept", "mask"]:
            kept, mask = parts["kept"], parts["mask"]
            value = kept.new_zeros(*kept.shape[:2], *mask.shape[2:])
            value[:, :, _support(mask)] = kept
            return Masked(value, mask)
    raise ValueError(f"the tensors {sorted(parts)} of {name!r} are not one value")


def _feature(site: str, operations: dict[str, Any]) -> Feature:
    scale, shift = operations.pop("film.scale", None), operations.pop("film.shift", None)
    if (scale is None) != (shift is None):
        raise ValueError(f"features.{site}.film needs scale and shift")
    if unknown := sorted(operations.keys() - set(_OPERATIONS)):
        raise ValueError(f"unexpected operations {unknown} at features.{site}")
    return Feature(None if scale is None else (scale, shift), **operations)
