"""How far codes lie from a generator's own, seen from its styles: the normalised style-space cosine distance (Cao et al. 2022,
"LSAP: Rethinking Inversion Fidelity, Perception and Editability in GAN Latent Space", section 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.codes.segments import sequential_sum
from ganinv.generators.stylegan2 import Generator

SAMPLES, SEED, CHUNK = 100_000, 0, 2_000


class StyleAlignment:
    """Distances of w to the mean of W's normalised styles, on a generator.

    Styles are those of each convolution and of the last toRGB, one for each row of W+, as they are multiplied into the weights
    (their bias included), scaled to length 1. The anchor of each is the mean over mapped latents, which is shorter than 1: by
    the angle to it, samples themselves are at a distance of 1 - |anchor| in the mean, and the average face is at the smallest.

    Args:
        samples, seed: mapped latents that the anchors are of; they are measured again, equal, wherever the same is asked.

    Attributes:
        names: of the layers. anchors: one [C] for each. levels: [rows], the samples' own mean distance.
    """

    def __init__(self, generator: Generator, samples: int = SAMPLES, seed: int = SEED) -> None:
        self.generator = generator
        layers = generator.synthesis.layers()
        last = [name for name, _, _ in layers if name.startswith("torgbs")][-1]
        self.chosen = [i for i, (name, _, _) in enumerate(layers) if name.startswith("convs") or name == last]
        self.names = tuple(layers[i][0] for i in self.chosen)
        self.anchors = self._anchors(samples, seed)
        self.levels = torch.stack([1 - anchor.norm() for anchor in self.anchors]).clamp_min(1e-6)

    @torch.no_grad()
    def _anchors(self, samples: int, seed: int) -> list[Tensor]:
        g, rng = self.generator, torch.Generator().manual_seed(seed)
        sums: list[Tensor] = []
        for first in range(0, samples, CHUNK):
            z = torch.randn(min(CHUNK, samples - first), g.z_dim, generator=rng).to(g.device)
            some = [style.double().sum(0) for style in self.styles(g.map_all(z))]
            sums = [a + b for a, b in zip(sums, some, strict=True)] if sums else some
        return [(total / samples).float() for total in sums]

    def styles(self, w: Tensor) -> list[Tensor]:
        """w [B, num_ws, w_dim] to styles of length 1, one [B, C] for each row."""
        every = self.generator.styles(w)
        return [F.normalize(every[i], dim=1) for i in self.chosen]

    def distances(self, w: Tensor) -> Tensor:
        """1 - cos of each row's style and its anchor: [B, rows]."""
        pairs = zip(self.styles(w), self.anchors, strict=True)
        return torch.stack([1 - (style * F.normalize(anchor, dim=0)).sum(1) for style, anchor in pairs], dim=1)

    def loss(self, w: Tensor, rows: int | None = None, *, beyond_samples: bool = True) -> Tensor:
        """What an encoder is to lower.

        Args:
            rows: the first so many count. beyond_samples: each row's distance in units of the samples' own, and only what
                exceeds it, mean over rows: below lies the average face, and unweighted the few rows with wide styles would rule.
                False is the published loss: the sum over rows of 1 - the product with the anchor as it is.
        """
        if not beyond_samples:
            pairs = list(zip(self.styles(w), self.anchors, strict=True))[:rows]
            return torch.stack([1 - style @ anchor for style, anchor in pairs], dim=1).sum(1).mean()
        return (self.distances(w)[:, :rows] / self.levels[:rows] - 1).relu().mean()

    def beyond(self, w: Tensor) -> Tensor:
        """:meth:`loss` beyond samples, of each image by itself: [B]."""
        return sequential_sum((self.distances(w) / self.levels - 1).relu()) / len(self.levels)

    def ratio(self, w: Tensor) -> Tensor:
        """Per image, the mean over rows of the distance in units of the samples' own: about 1 for samples, [B]."""
        return (self.distances(w) / self.levels).mean(1)
