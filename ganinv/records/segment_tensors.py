"""The segments of one image as named tensors and back.

Segment number k has ``segments.<k>.<name>.w``, ``.mask`` and ``.styles.<layer>``; all of them share
``segments.background``. Masks and background have 8 bits a pixel and are PNG files, held as tensors of bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganinv.codes.segments import Segments

PREFIX = "segments."
BACKGROUND = f"{PREFIX}background"


def flatten_segments(segments: Segments) -> dict[str, Tensor]:
    """Tensors of the segments of one image. Segments that are nowhere seen are left out, and so is the background where
    masks cover it."""
    steps = _in_steps(segments.shares()[0, :, 0])
    out: dict[str, Tensor] = {}
    seen = [k for k in range(len(segments)) if steps[k].any()] or [0]
    for k in seen:
        name = f"{PREFIX}{k}.{segments.names[k]}"
        out |= {f"{name}.w": segments.w[:, k], f"{name}.mask": _to_png(steps[k])}
        out |= {f"{name}.styles.{layer}": v[:, k] for layer, v in (segments.styles or {}).items() if v[:, k].any()}
    rest = 255 - steps.sum(0, dtype=torch.int64)
    if segments.background is not None and rest.any():
        # The formula of the reader of images (``ganinv.data``), backwards: 8-bit photos come back to the bit.
        pixels = ((segments.background[0] + 1) * 127.5).round().clamp(0, 255) * (rest > 0)
        out[BACKGROUND] = _to_png(pixels.to(torch.uint8).flatten(0, 1))
    return out


def unflatten_segments(tensors: Mapping[str, Tensor]) -> Segments:
    """The inverse of :func:`flatten_segments`, float32.

    Raises:
        ValueError: names or tensors that it does not give.
    """
    parts: dict[tuple[int, str], dict[str, Tensor]] = {}
    background = None
    for name, tensor in tensors.items():
        if name == BACKGROUND:
            background = _from_png(name, tensor)
            continue
        number, _, rest = name.removeprefix(PREFIX).partition(".")
        segment, _, part = rest.partition(".")
        if not (number.isdigit() and (part in ("w", "mask") or part.startswith("styles."))):
            raise ValueError(f"unexpected tensor {name!r}")
        parts.setdefault((int(number), segment), {})[part] = tensor
    found = [parts[key] for key in sorted(parts)]
    if not found or any("w" not in p or "mask" not in p for p in found):
        raise ValueError("segments need at least one segment, and each its w and its mask")
    w = torch.stack([p["w"] for p in found], dim=1)
    masks = torch.stack([_from_png("mask", p["mask"])[None, None] for p in found], dim=1).float() / 255
    styles = {}
    for part in sorted({part for p in found for part in p if part.startswith("styles.")}):
        given = next(p[part] for p in found if part in p)
        styles[part.removeprefix("styles.")] = torch.stack([p.get(part, torch.zeros_like(given)) for p in found], dim=1)
    if background is not None:
        background = background.reshape(1, -1, *masks.shape[3:]).float() / 127.5 - 1
    return Segments(masks, w, styles or None, background, tuple(name for _, name in sorted(parts)))


def _in_steps(shares: Tensor) -> Tensor:
    """Shares [K, R, R] in whole 255ths, uint8. Their running sums are rounded, so what sums to 1 sums to 255."""
    sums = (shares.double().cumsum(0) * 255).round().clamp(0, 255)
    return torch.diff(sums, dim=0, prepend=torch.zeros_like(sums[:1])).to(torch.uint8)


def _to_png(pixels: Tensor) -> Tensor:
    """uint8 [H, W] as the bytes of a grey PNG file, uint8 [n]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, format="PNG")
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _from_png(name: str, data: Tensor) -> Tensor:
    if data.dtype != torch.uint8 or data.ndim != 1:
        raise ValueError(f"{name} must be the bytes of a PNG file, got {data.dtype} {list(data.shape)}")
    try:
        with Image.open(io.BytesIO(data.numpy().tobytes()), formats=("PNG",)) as image:
            if image.mode != "L":
                raise ValueError(f"{name} must be grey with 8 bits, got mode {image.mode}")
            return torch.from_numpy(np.array(image))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{name} is not a PNG file: {error}") from error
