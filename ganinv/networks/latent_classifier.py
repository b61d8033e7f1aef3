"""A classifier of latents: flattened W+ to log-odds of attributes (Hu et al. 2022, "Style Transformer")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganinv.config import StrictModel
from ganinv.errors import DataError


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


class LatentTrainingConfig(StrictModel):
    """How a latent classifier is trained; the original's recipe is not published."""

    steps: int = Field(default=600, ge=1)
    batch_size: int = Field(default=64, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    seed: int = 0


def train_latent_classifier(
    net: LatentClassifier, w: Tensor, labels: Tensor, config: LatentTrainingConfig | None = None
) -> list[float]:
    """Train in place with binary cross entropy; the loss of each step.

    Args:
        w: [N, num_ws, w_dim]. labels: [N, K] in 0 .. 1; NaN where one is not known.

    Raises:
        DataError: shapes that do not fit, or labels outside 0 .. 1.
    """
    config = config or LatentTrainingConfig()
    known = torch.isfinite(labels)
    values = labels.nan_to_num(0.5)
    if labels.shape != (len(w), len(net.attributes)) or values.min() < 0 or values.max() > 1:
        raise DataError(
            f"expected labels [{len(w)}, {len(net.attributes)}] in 0 .. 1, got {tuple(labels.shape)} in "
            f"{values.min():g} .. {values.max():g}"
        )
    rng = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    losses = []
    net.train()
    for _ in range(config.steps):
        pick = torch.randint(len(w), (config.batch_size,), generator=rng)
        logits, _ = net(w[pick])
        each = F.binary_cross_entropy_with_logits(logits, values[pick].to(logits), reduction="none")
        loss = (each * known[pick]).sum() / known[pick].sum().clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    net.eval()
    return losses
