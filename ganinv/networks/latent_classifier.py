"""A classifier of latents: flattened W+ to log-odds of attributes (Hu et al. 2022, "Style Transformer")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LatentClassifier(nn.Module):
    """Two shared layers, then for each attribute an embedding and, linear in it, a log-odds.

    Args:
        num_ws, w_dim: of the latents. attributes: their names; 40 in the original.
        hidden: widths of the shared layers. embedding: of each attribute's embedding.
    """

    def __init__(
        self,
        num_ws: int,
        w_dim: int,
        attributes: Sequence[str],
        hidden: tuple[int, int] = (2048, 512),
        embedding: int = 32,
    ) -> None:
        super().__init__()
        self.attributes = tuple(attributes)
        self.fcs = nn.ModuleList([nn.Linear(num_ws * w_dim, hidden[0]), nn.Linear(*hidden)])
        self.indep_fcs = nn.ModuleList(nn.Linear(hidden[1], embedding) for _ in attributes)
        self.output_fcs = nn.ModuleList(nn.Linear(embedding, 1) for _ in attributes)

    def forward(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """(log-odds [B, K], embeddings [B, K, E]) of w [B, num_ws, w_dim]."""
        x = w.flatten(1)
        for layer in self.fcs:
            x = F.leaky_relu(layer(x), 0.2)
        embeddings = torch.stack([layer(x) for layer in self.indep_fcs], 1)
        logits = [layer(embeddings[:, i]) for i, layer in enumerate(self.output_fcs)]
        return torch.cat(logits, 1), embeddings

    def scores(self, w: Tensor) -> Mapping[str, Tensor]:
        """Attribute -> log-odds [B], as ``ClassifierGradientEditor`` takes them."""
        logits, _ = self(w)
        return {name: logits[:, i] for i, name in enumerate(self.attributes)}
