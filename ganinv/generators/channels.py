"""Generators that do not make RGB: grey ones (X-rays, sketches) and those with an opacity beside the colour."""

from __future__ import annotations

import torch
from torch import Tensor

from ganinv.errors import ConfigError

CHANNELS = {1: "grey", 3: "RGB", 4: "RGB and opacity"}
"""What can be inverted: channels of a generator's images -> their meaning."""
LUMA = (0.299, 0.587, 0.114)
"""Rec. 601, as Pillow makes an image grey."""


def check_channels(channels: int, name: str) -> None:
    """Refuse a generator to whose images no photo can be compared.

    Raises:
        ConfigError: its images have a number of channels that is not in ``CHANNELS``.
    """
    if channels not in CHANNELS:
        known = ", ".join(f"{n} ({what})" for n, what in CHANNELS.items())
        raise ConfigError(f"generator {name!r} makes images of {channels} channels; those of {known} can be inverted")


def as_channels(rgb: Tensor, channels: int) -> Tensor:
    """Photos [B, 3, R, R] in [-1, 1] as a generator with this number of channels would make them: [B, channels, R, R].

    Grey is their luma; an opacity is full, as decoding has laid transparent images over white.
    """
    check_channels(channels, "of these images")
    if channels == 1:
        weights = rgb.new_tensor(LUMA)[:, None, None]
        return (rgb * weights).sum(1, keepdim=True)
    return rgb if channels == 3 else torch.cat([rgb, torch.ones_like(rgb[:, :1])], 1)


def as_rgb(images: Tensor) -> Tensor:
    """Renderings [B, C, R, R] as people see them: grey three times, an opacity laid over white. RGB stays as it is."""
    if images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    if images.shape[1] != 4:
        return images
    opacity = ((images[:, 3:] + 1) / 2).clamp(0, 1)
    return images[:, :3] * opacity + (1 - opacity)
