"""Smooth: codes of a video's frames, along time."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.frames import frame_order, sequence_of
from ganinv.stages.base import Context, StageResult
from ganinv.target import Target

_log = logging.getLogger("ganinv.stages")


class Smooth(StrictModel):
    """A Gaussian over the latents of neighbouring frames, row by row of W+.

    An encoder that sees each frame alone answers a little differently to each; what is slower than some frames is motion and
    stays. The images of a call are the frames of one video, in the order of their names (``ganinv.frames``). With a shared
    generator after it this is the order of Tzaban et al. 2022 ("Stitch it in Time"), who invert by an encoder, count on its
    bias towards smooth answers, and tune one generator for all frames; they smooth landmarks, before the alignment.
    """

    iterative: ClassVar[bool] = False
    shares: ClassVar[bool] = True
    """Images of a call depend on each other."""

    kind: Literal["smooth"] = "smooth"
    sigma: float = Field(1.0, ge=0)
    """Of the Gaussian, in frames; 0 changes nothing."""
    cut: float = Field(4.0, gt=1)
    """A step between two frames that is so many times the median one is a cut: nothing is smoothed across it."""

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        if code is None:
            raise ConfigError("a smooth stage changes codes, and there are none: put an encode stage before it")
        count = len(target)
        place = {image_id: k for k, image_id in enumerate(target.ids)}
        order = torch.tensor([place[image_id] for image_id in frame_order(target.ids)], device=code.w.device)
        w = code.w.clone()
        w[order] = self._smoothed(code.w[order], [target.ids[int(k)] for k in order])
        return StageResult(code.with_w(w), [[] for _ in range(count)], [0] * count, ["single pass"] * count)

    def _smoothed(self, w: Tensor, ids: list[str]) -> Tensor:
        """Of w [T, num_ws, w_dim] in order, each scene between two cuts for itself."""
        steps = (w[1:] - w[:-1]).flatten(1).norm(dim=1)
        cuts = (steps > self.cut * steps.median()).nonzero().flatten().tolist() if len(steps) > 2 else []
        for k in cuts:
            _log.warning(
                "from frame %r to %r the latent jumps %.0f times as far as from most to their next: a cut, or another person. "
                "Nothing is smoothed across it; frames of two people should lie in two folders, since a folder shares one "
                "generator",
                *(ids[k], ids[k + 1], float(steps[k] / steps.median())),
            )
        if len(ids) == 1:
            _log.warning("%r is the only frame of %r: there is nothing to smooth", ids[0], sequence_of(ids[0]) or ".")
        bounds = [0, *(k + 1 for k in cuts), len(w)]
        scenes = [smoothed(w[a:b], self.sigma) for a, b in pairwise(bounds)]
        return torch.cat(scenes)


def smoothed(values: Tensor, sigma: float) -> Tensor:
    """Values [T, ...] weighted with those of other times by exp(-(s - t)^2 / 2 sigma^2).

    Weights sum to one at every time, also at both ends, where there are fewer neighbours. Nothing beyond three sigma counts.
    """
    if sigma == 0 or len(values) < 2:
        return values
    time = torch.arange(len(values), dtype=torch.float64)
    apart = time[:, None] - time[None]
    weights = torch.exp(-apart.square() / (2 * sigma**2)) * (apart.abs() <= 3 * sigma)
    weights = (weights / weights.sum(1, keepdim=True)).to(values)
    return (weights @ values.flatten(1)).view_as(values)
