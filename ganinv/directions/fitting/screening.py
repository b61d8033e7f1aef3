"""All channels of S at once: how strongly each changes each score, to first order.

One backward pass per attribute says how a score changes with every channel, so thousands of channels are screened in the time
that a few take to be edited and rendered. The published search (``attribute_channels``) looks at what positives have in common,
which need not be what makes them positive; this looks at causes. Either way the edit itself is the judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.directions.styles import StyleLayout
from ganinv.errors import ConfigError, DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.base import Labeller


@dataclass(frozen=True)
class Screening:
    """Derivatives of scores, in standard deviations of the score per standard deviation of the channel.

    Args:
        attributes: K names. signed: [size, K], mean over images. magnitude: [size, K], mean of absolute values.
    """

    layout: StyleLayout
    attributes: tuple[str, ...]
    signed: np.ndarray
    magnitude: np.ndarray

    def ratio(self, attribute: str) -> np.ndarray:
        """[size]: mean |derivative| of the other attributes over that of this one: mean-AD of a small edit."""
        at = self._column(attribute)
        others = [i for i in range(len(self.attributes)) if i != at]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(self.magnitude[:, others].mean(1) / self.magnitude[:, at], nan=np.inf)

    def best(self, attribute: str, count: int, least: float = 0.03, torgb: bool = False) -> list[int]:
        """Places of the channels with the lowest ratio, among those that change the score by ``least`` or more."""
        strong = np.abs(self.signed[:, self._column(attribute)]) >= least
        if not torgb:
            strong &= self.layout.convolutions
        order = np.argsort(self.ratio(attribute), kind="stable")
        return [int(i) for i in order if strong[i]][:count]

    def sign(self, attribute: str, index: int) -> float:
        """Which way the channel moves for a higher score."""
        return float(np.sign(self.signed[index, self._column(attribute)]))

    def _column(self, attribute: str) -> int:
        if attribute not in self.attributes or len(self.attributes) < 2:
            known = ", ".join(self.attributes)
            raise ConfigError(f"screening for {attribute!r} needs its score and another one; there are: {known}")
        return self.attributes.index(attribute)


def screen_channels(
    generator: Generator,
    labeller: Labeller,
    w: Tensor,
    std: np.ndarray,
    sigma: Mapping[str, float],
    batch_size: int = 16,
) -> Screening:
    """Derivatives of every score with respect to every channel, over images of w [N, num_ws, w_dim].

    Args:
        std: [size], of the channels. sigma: attribute -> standard deviation of its score.

    Raises:
        DataError: a labeller without gradients.
    """
    if not labeller.differentiable:
        raise DataError(f"labeller {labeller.identity} has no gradients; give one that runs in torch")
    layout, names = StyleLayout.of(generator), tuple(labeller.attributes)
    signed = np.zeros((layout.size, len(names)))
    magnitude = np.zeros_like(signed)
    scale = np.asarray(std)[:, None] / np.array([sigma[name] for name in names])
    for part in w.split(batch_size):
        offsets = {n: part.new_zeros(len(part), width, requires_grad=True) for n, width in layout.style_layers}
        scores = labeller.score(generator.synthesize(Code(w=part, styles=offsets)))
        for column, name in enumerate(names):
            # A sum over the batch: an image's gradient does not depend on the others.
            found = torch.autograd.grad(scores[name].sum(), list(offsets.values()), retain_graph=True)
            derivative = torch.cat(found, 1).double().cpu().numpy() * scale[:, column]
            signed[:, column] += derivative.sum(0)
            magnitude[:, column] += np.abs(derivative).sum(0)
    return Screening(layout, names, signed / len(w), magnitude / len(w))
