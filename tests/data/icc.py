"""Colour profiles as files embed them: ICC version 2, three colorants (already adapted to D50) and one gamma."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageCms

# Colorants as the standards' white points and primaries give them, adapted to D50 by Bradford.
SPACES: dict[str, tuple[Sequence[Sequence[float]], float]] = {
    "display-p3": (((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841)), 2.2),
    "adobe-rgb": (((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)), 563 / 256),
    "prophoto": (((0.7977, 0.2880, 0.0), (0.1352, 0.7119, 0.0), (0.0313, 0.0001, 0.8249)), 1.8),
}


def profile(name: str) -> bytes:
    """The bytes of a profile."""
    colorants, gamma = SPACES[name]
    tags = {b"desc": _text(name), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz((0.9642, 1.0, 0.8249))}
    for letter, colorant in zip(b"rgb", colorants, strict=True):
        tags[bytes([letter]) + b"XYZ"] = _xyz(colorant)
        tags[bytes([letter]) + b"TRC"] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    return _file(tags, b"mntr", b"RGB ", b"XYZ ")


def _file(tags: Mapping[bytes, bytes], kind: bytes, space: bytes, connection: bytes) -> bytes:
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"none", 0x02400000, kind, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, (0.9642, 1.0, 0.8249)))
    return header.ljust(128, b"\0") + table + body


def ink_profile(grid: int = 9) -> bytes:
    """A profile of ink that mixes as Pillow's own conversion does: Lab of a lattice of CMYK (lut8, ICC.1:2001, 6.5.8)."""
    steps = np.linspace(0, 255, grid)
    inks = np.stack(np.meshgrid(steps, steps, steps, steps, indexing="ij"), -1).reshape(-1, 4)
    rgb = np.rint((255 - inks[:, :3]) * (255 - inks[:, 3:]) / 255).astype(np.uint8)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.fromarray(rgb[None]), to_lab)
    assert lab is not None
    numbers = np.asarray(lab)[0].astype(np.int16)
    numbers[:, 1:] = (
        np.where(numbers[:, 1:] > 127, numbers[:, 1:] - 256, numbers[:, 1:]) + 128
    )  # Pillow has them signed
    straight = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, grid, 0]) + b"".join(_fixed(v) for v in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    lut += straight * 4 + numbers.astype(np.uint8).tobytes() + straight * 3
    tags = {b"desc": _text("ink"), b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz((0.9642, 1.0, 0.8249)), b"A2B0": lut}
    return _file(tags, b"prtr", b"CMYK", b"Lab ")


def twin(image: Image.Image, name: str) -> Image.Image:
    """The picture with the numbers that it has in another space."""
    source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile(name)))
    converted = ImageCms.profileToProfile(image, source, target, renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert converted is not None
    return converted


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _text(text: str) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text.encode() + bytes(80)
