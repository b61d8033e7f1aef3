"""e4e (Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation"): one base latent and a delta per row."""

from __future__ import annotations

import hashlib

import torch
from pydantic import Field
from torch import Tensor, nn

from ganinv.code import Code
from ganinv.config import StrictModel
from ganinv.networks.blocks import PyramidBackbone, RowHead, zero_


class E4eConfig(StrictModel):
    """The shape of an e4e encoder on a small backbone."""

    resolution: int
    num_ws: int
    w_dim: int
    img_channels: int = 3
    base_channels: int = Field(16, ge=8)
    pyramid_channels: int = Field(96, ge=8)


class E4e(nn.Module):
    """``e4e(images [B, 3, R, R] in [-1, 1]) -> Code``; ``latents(images)`` gives its w [B, num_ws, w_dim].

    Row 0 is the base, row i the base plus delta i; ``latent_avg`` is added at the end. Rows up to ``stage`` have their
    delta (progressive training, section 3.1); inference uses all. Rows 0-2 read the coarse map, 3-6 the medium, the rest
    the fine one.
    """

    latent_avg: Tensor

    def __init__(self, cfg: E4eConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.stage = cfg.num_ws - 1
        self.backbone = PyramidBackbone(cfg.resolution, cfg.img_channels, cfg.base_channels, cfg.pyramid_channels)
        sizes = [self._map_size(i) for i in range(cfg.num_ws)]
        self.heads = nn.ModuleList(RowHead(cfg.pyramid_channels, size, cfg.w_dim) for size in sizes)
        for head in self.heads:
            zero_(head.linear)  # type: ignore[arg-type]  # training starts from the mean latent
        self.register_buffer("latent_avg", torch.zeros(cfg.w_dim))

    @staticmethod
    def _map_size(row: int) -> int:
        return 8 if row < 3 else 16 if row < 7 else 32

    def forward(self, images: Tensor) -> Code:
        return Code(w=self.latents(images))

    def latents(self, images: Tensor) -> Tensor:
        """Images [B, 3, R, R] to w [B, num_ws, w_dim]."""
        maps = dict(zip((8, 16, 32), self.backbone(images), strict=True))
        base = self.heads[0](maps[8])
        deltas = (self.heads[i](maps[self._map_size(i)]) for i in range(1, self.stage + 1))
        rows = [base, *(base + delta for delta in deltas)]
        rows += [base] * (self.cfg.num_ws - len(rows))
        return torch.stack(rows, dim=1) + self.latent_avg

    @property
    def fingerprint(self) -> str:
        """sha256 over the weights, names sorted."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()
