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
        # A few tokens that look at many places of an image: to bring the tokens to the memory is less work than the other way
        # round. With dropout the weights of a token do not sum to one, and its mean of values would lack some of their bias.
        if not self.training and self.heads * x.shape[1] < memory.shape[2]:
            return self.out(self._few(x, memory))
        q, k, v = (self._heads(one(of)) for one, of in ((self.q, x), (self.k, memory), (self.v, memory)))
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.out(seen.transpose(1, 2).flatten(2))

    def _few(self, x: Tensor, memory: Tensor) -> Tensor:
        """The same without keys and values: ``q . (K m) = (K^T q) . m`` (a bias of keys changes no weight, as it adds the same
        to all scores of a query), and the mean of ``V m + b`` is ``V`` of the mean of ``m``, plus ``b``."""
        q = self._heads(self.q(x))  # [B, heads, N, width of a head]
        to_memory = self.k.weight.unflatten(0, (self.heads, -1))
        scale = q.shape[3] ** -0.5
        # A token's heads are queries of their own, of the whole width.
        together = (q @ to_memory).flatten(1, 2)[:, None]
        seen = F.scaled_dot_product_attention(together, memory[:, None], memory[:, None], scale=scale)
        means = seen[:, 0].unflatten(1, (self.heads, -1))
        values = means @ self.v.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)
        return values.transpose(1, 2).flatten(2) + self.v.bias

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


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
