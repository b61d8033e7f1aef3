"""Codes of the interactive version of ChunkyGAN (Chunkmogrify): a folder of ``00_w.pt``, ``01_w.pt``, ..., one per segment."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from ganinv.code import Code, Segments
from ganinv.errors import WeightsRefused
from ganinv.reading.checkpoint import read_checkpoint

_FILE = re.compile(r"(\d+)_w\.pt")


def read_chunks(folder: str | Path, masks: Tensor, photo: Tensor | None = None) -> Code:
    """The code of one image, its segments named as the files are numbered. The program keeps no masks and no photo beside
    the latents, so they have to be given.

    Args:
        masks: [K, R, R] in [0, 1], in the order of the files. photo: [3, R, R] in [-1, 1], what is seen outside of them.

    Raises:
        WeightsRefused: no such files, a number of them that is not the number of masks, or one that is no latent.
    """
    found = {int(m[1]): path for path in Path(folder).glob("*_w.pt") if (m := _FILE.fullmatch(path.name))}
    if not found or len(found) != len(masks):
        raise WeightsRefused(
            f"{folder} has {len(found)} latents {sorted(p.name for p in found.values())} and there are {len(masks)} masks; "
            "expected files 00_w.pt, 01_w.pt, ... and a mask for each"
        )
    latents = torch.stack([_latent(found[number]) for number in sorted(found)], dim=1)
    background = None if photo is None else photo[None]
    names = tuple(map(str, sorted(found)))
    w, segments = Segments(masks[None, :, None].float(), latents, background=background, names=names).centred()
    return Code(w, segments=segments)


def _latent(path: Path) -> Tensor:
    w = read_checkpoint(str(path))
    if not isinstance(w, Tensor) or w.ndim != 3 or len(w) != 1 or not torch.isfinite(w).all():
        got = f"{list(w.shape)}" if isinstance(w, Tensor) else type(w).__name__
        raise WeightsRefused(f"{path} is no latent: expected finite numbers of shape [1, num_ws, w_dim], got {got}")
    return w.float()
