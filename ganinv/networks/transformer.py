"""The decoder layer of a transformer (Vaswani et al. 2017, section 3.1), with normalisation after each sum and without
positions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of queries [B, N, width] to a memory [B, M, width].

    Queries, keys and values have separate matrices (the published files stack them), so that Muon makes a separate step for
    each.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} cannot be shared by {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = (
            one(of).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for one, of in ((self.q, x), (self.k, memory), (self.v, memory))
        )
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out(seen.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Tokens attend to one another, then to a memory, then pass through a two-layer network. After each of these come a sum and
    a layer norm.

    Args:
        width: of tokens and memory. hidden: of the two-layer network.
        dropout: of attention weights, of each branch, and within the two-layer network; only in training.
    """

    def __init__(self, width: int, heads: int = 4, hidden: int = 1024, dropout: float = 0.1) -> None:
        super().__init__()
        self.self_attention = Attention(width, heads, dropout)
        self.cross_attention = Attention(width, heads, dropout)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """From tokens [B, N, width] and a memory [B, M, width] to tokens."""
        x = self.norms[0](tokens + self.dropout(self.self_attention(tokens, tokens)))
        x = self.norms[1](x + self.dropout(self.cross_attention(x, memory)))
        hidden = self.dropout(self.linear1(x).relu())
        return self.norms[2](x + self.dropout(self.linear2(hidden)))
