"""What a published encoder checkpoint was found to be, and what its names and options say of its size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.networks.adopt import Lazy

Tensors = dict[str, Lazy]

SIZE = 256  # what all these encoders read
MAX_STYLES = 22  # of a StyleGAN2 of resolution 4096


@dataclass(frozen=True)
class EncoderDescription:
    """What a checkpoint is.

    Args:
        method: ``psp``, ``e4e``, ``w``, ``naive-w+``, ``in-domain``; with ``restyle-`` before it when the encoder sees a
            rendering, or ``interestyle`` when its losses were masked; ``hyperstyle``; ``hfgi``; or one of ``published.kinds``.
        encoder_type: the class of the published code; None for HyperStyle, whose W encoder is another file, and for an
            HFGI file without its encoder.
        opts: the options of its training, plain values only.
        n_styles: rows of W+ (``num_ws``); 0 where the networks do not depend on it.
        input_size: (height, width) of the images it reads. input_channels: 3, or 6 when a rendering is seen as well.
        latent_avg: the mean latent as the file holds it: [w_dim], [1, w_dim] or [n, w_dim]; None when it holds none.
        parts: network (``encoder``, ``decoder``, ``hypernet``, ``grid_align``, ``residue``) -> its tensors.
    """

    method: str
    encoder_type: str | None
    opts: dict[str, Any]
    n_styles: int
    input_size: tuple[int, int]
    input_channels: int
    latent_avg: Lazy | None
    parts: dict[str, Tensors]

    @property
    def sees_rendering(self) -> bool:
        return self.method.startswith("restyle-") or self.method == "interestyle"

    def shape(self, latent_avg: Tensor) -> dict[str, Any]:
        """What the configurations of its encoders have in common.

        Args:
            latent_avg: [n_styles, w_dim].
        """
        height, width = self.input_size
        return {
            "resolution": width,
            "input_height": None if height == width else height,
            "num_ws": self.n_styles,
            "w_dim": latent_avg.shape[1],
            "img_channels": self.input_channels,
            "latent_avg_per_row": stored_mean(latent_avg).ndim == 2,
        }


def described(
    method: str,
    encoder_type: str | None,
    input_channels: int,
    parts: dict[str, Tensors],
    opts: dict[str, Any],
    latent_avg: Lazy | None,
    where: str,
) -> EncoderDescription:
    """A file whose tensors and options say how many rows of W+ it gives and what size of images it reads.

    Raises:
        WeightsRefused: they do not say how many rows, or a number that no StyleGAN2 has.
    """
    return EncoderDescription(
        method=method,
        encoder_type=encoder_type,
        opts=opts,
        n_styles=rows_of(parts, opts, latent_avg, where),
        input_size=size_of(opts),
        input_channels=input_channels,
        latent_avg=latent_avg,
        parts=parts,
    )


def stored_mean(latent_avg: Tensor) -> Tensor:
    """A mean latent [n, w_dim] as our networks hold it: [w_dim] if all its rows are equal."""
    return latent_avg if bool((latent_avg != latent_avg[0]).any()) else latent_avg[0]


def rows_of(parts: Mapping[str, Tensors], opts: Mapping[str, Any], latent_avg: Lazy | None, where: str) -> int:
    """Rows of W+ (``num_ws``) that a file is for: by the heads of its encoder, its decoder, its options, its mean latent.

    Raises:
        WeightsRefused: none of them says, or a number that no StyleGAN2 has.
    """
    n_styles = _rows_of(parts, opts, latent_avg, where)
    if not 2 <= n_styles <= MAX_STYLES:
        raise WeightsRefused(f"{where} is for {n_styles} rows of W+; a StyleGAN2 has 2 to {MAX_STYLES}")
    return n_styles


def _rows_of(parts: Mapping[str, Tensors], opts: Mapping[str, Any], latent_avg: Lazy | None, where: str) -> int:
    rows = [int(m[1]) for name in parts.get("encoder", {}) if (m := re.match(r"styles\.(\d{1,3})\.", name))]
    if rows:
        return max(rows) + 1
    convs = [int(m[1]) for name in parts.get("decoder", {}) if (m := re.match(r"convs\.(\d{1,3})\.", name))]
    if convs:
        return max(convs) + 3
    size = opts.get("output_size") or opts.get("stylegan_size")
    if isinstance(size, int) and size >= 4:
        return 2 * size.bit_length() - 4
    if isinstance(opts.get("n_styles"), int):
        return int(opts["n_styles"])
    if latent_avg is not None and len(latent_avg.shape) == 2 and latent_avg.shape[0] > 1:
        return int(latent_avg.shape[0])
    raise WeightsRefused(f"{where}: neither its tensors nor its options say how many rows of W+ it is for")


def size_of(opts: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of the images that a file's encoder reads."""
    return (192, SIZE) if re.match(r"cars?(_|$)", str(opts.get("dataset_type", ""))) else (SIZE, SIZE)
