"""Training e4e on a frozen generator (Tov et al. 2021), on real and generated images mixed.

Losses: L2 + perceptual distance on the rendering, the latent discriminator on single rows, and the norm of the deltas.
Deltas are unlocked one row after the other (progressive training). For generated images the true latent is known, so
their encoding is also pulled towards it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import DistanceName, between, open_distance
from ganinv.methods.e4e import E4e, E4eConfig
from ganinv.networks.blocks import LatentDiscriminator
from ganinv.optim.muon import MuonAdam
from ganinv.training.augment import jitter


class E4eTrainingConfig(StrictModel):
    """A training run of e4e. Weights are the published ones for faces, but for the embedded distance's scale."""

    steps: int = Field(1500, ge=1)
    batch_size: int = Field(16, ge=2)
    real_share: float = Field(0.5, ge=0, le=1)
    """Share of real images in a batch; the rest is sampled from the generator."""
    jitter: bool = True
    """Real images are shifted, scaled and lit a little differently each time (``augment.jitter``)."""
    sample_psi: float = 0.9
    lr: float = Field(5e-4, gt=0)
    """Adam's learning rate: biases, norms and small weights."""
    muon_lr: float = Field(0.01, gt=0)
    """Muon's, for filters and matrices: size of a step relative to the weight (see ``muon``)."""
    lr_rampdown: float = Field(0.3, ge=0, le=1)
    """Share of the steps over which the learning rate falls to zero."""
    l2_weight: float = 1.0
    distance: DistanceName = "embedded"
    distance_weight: float = 0.8
    adversarial_weight: float = 0.1
    delta_weight: float = 2e-4
    latent_weight: float = 0.02
    """Squared distance to the true latent, generated images only, in units of w_std^2."""
    progressive_start: int = 300
    """Until this step all rows are equal (pure W)."""
    progressive_every: int = 30
    """Then one more row gets its delta every so many steps."""
    discriminator_lr: float = 2e-5
    r1_weight: float = 10.0
    r1_every: int = 16
    pool_size: int = 50
    seed: int = 0


class LatentPool:
    """Image pool of past encodings (Shrivastava et al. 2017): half of what is returned is old once the pool is full."""

    def __init__(self, size: int, rng: random.Random) -> None:
        self.size, self.rng = size, rng
        self.items: list[Tensor] = []

    def query(self, rows: Tensor) -> Tensor:
        out = []
        for row in rows:
            if len(self.items) < self.size:
                self.items.append(row)
                out.append(row)
            elif self.rng.random() < 0.5:
                slot = self.rng.randrange(self.size)
                out.append(self.items[slot])
                self.items[slot] = row
            else:
                out.append(row)
        return torch.stack(out)


class E4eTrainer:
    """Holds the whole state of a run: ``step()``, ``state()``, ``load()``.

    Args:
        images: real images, uint8 [N, 3, R, R]; may be empty when ``real_share`` is 0.
        start: an encoder to go on from.
    """

    def __init__(self, cfg: E4eTrainingConfig, generator: Generator, images: Tensor, start: E4e | None = None) -> None:
        self.cfg, self.generator, self.images = cfg, generator, images
        torch.manual_seed(cfg.seed)
        self.rng = torch.Generator().manual_seed(cfg.seed)
        self.encoder = E4e(
            E4eConfig(
                resolution=generator.resolution,
                num_ws=generator.num_ws,
                w_dim=generator.w_dim,
                img_channels=generator.img_channels,
            )
        )
        self.encoder.latent_avg.copy_(generator.w_mean)
        self.finetuning = start is not None
        if start is not None:
            self.encoder.load_state_dict(start.state_dict())
        self.encoder.to(generator.device).train()
        self.discriminator = LatentDiscriminator(generator.w_dim).to(generator.device)
        self.optimizer = MuonAdam(self.encoder, muon_lr=cfg.muon_lr, adam_lr=cfg.lr)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=cfg.discriminator_lr)
        self.distance = open_distance(cfg.distance, generator)
        self.pools = [LatentPool(cfg.pool_size, random.Random(cfg.seed + i)) for i in range(2)]
        self.steps_done = 0

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the last step, yielding the losses of each."""
        while self.steps_done < self.cfg.steps:
            yield self.step()

    def step(self) -> dict[str, float]:
        cfg = self.cfg
        self.encoder.stage = self._stage()
        left = (cfg.steps - self.steps_done) / cfg.steps
        self.optimizer.scale(min(1.0, left / cfg.lr_rampdown if cfg.lr_rampdown else 1.0))
        images, true_w = self._batch()
        with torch.no_grad():
            target = [f.detach() for f in self.distance.features(images)]
        w = self.encoder.latents(images)
        d_losses = self._discriminator_step(w.detach())
        rendered = self.generator.synthesize(Code(w=w))
        losses = {
            "l2": F.mse_loss(rendered, images),
            "distance": between(self.distance.features(rendered), target).mean(),
            "adversarial": F.softplus(-self.discriminator(self._active(w).flatten(0, 1))).mean(),
            "delta": (w[:, 1:] - w[:, :1]).norm(dim=2).mean(0).sum(),
        }
        total = (
            cfg.l2_weight * losses["l2"]
            + cfg.distance_weight * losses["distance"]
            + cfg.adversarial_weight * losses["adversarial"]
            + cfg.delta_weight * losses["delta"]
        )
        if len(true_w):
            scale = self.generator.w_std.square().clamp_min(1e-8)
            losses["latent"] = (w[-len(true_w) :] - true_w).square().sum(2).mean() / scale
            total = total + cfg.latent_weight * losses["latent"]
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        self.steps_done += 1
        out = {name: value.item() for name, value in losses.items()} | d_losses
        return {"step": float(self.steps_done), "stage": float(self.encoder.stage), "total": total.item()} | out

    def _stage(self) -> int:
        """How many rows have their delta now: none before ``progressive_start``, then one more at a time."""
        last = self.generator.num_ws - 1
        if self.finetuning:
            return last
        since = self.steps_done - self.cfg.progressive_start
        return 0 if since < 0 else min(last, 1 + since // self.cfg.progressive_every)

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Images, real ones first, and the latents of the generated ones."""
        cfg, device = self.cfg, self.generator.device
        real_count = round(cfg.batch_size * cfg.real_share) if len(self.images) else 0
        index = torch.randint(max(len(self.images), 1), (real_count,), generator=self.rng)
        real = self.images[index].to(device).float() / 127.5 - 1 if real_count else self.images.new_zeros(0).float()
        flip = torch.rand(real_count, generator=self.rng) < 0.5
        if real_count:
            real = torch.where(flip[:, None, None, None].to(device), real.flip(3), real)
            real = jitter(real, self.rng) if cfg.jitter else real
        fake_count = cfg.batch_size - real_count
        if not fake_count:
            return real, torch.empty(0, device=device)
        z = torch.randn(fake_count, self.generator.z_dim, generator=self.rng).to(device)
        with torch.no_grad():
            w = self.generator.map(z, truncation_psi=cfg.sample_psi)
            fake = self.generator.synthesize(Code(w=w))
        return (torch.cat([real, fake]) if real_count else fake), w

    def _active(self, w: Tensor) -> Tensor:
        return w[:, : self.encoder.stage + 1]

    def _discriminator_step(self, w: Tensor) -> dict[str, float]:
        """Real rows are mapped latents, fake rows one random active row of each encoding, both through a pool."""
        cfg = self.cfg
        z = torch.randn(len(w), self.generator.z_dim, generator=self.rng).to(w.device)
        with torch.no_grad():
            real = self.pools[0].query(self.generator.mapping(z))
        row = torch.randint(self.encoder.stage + 1, (len(w),), generator=self.rng).to(w.device)
        fake = self.pools[1].query(w[torch.arange(len(w), device=w.device), row])
        loss = F.softplus(self.discriminator(fake)).mean() + F.softplus(-self.discriminator(real)).mean()
        if self.steps_done % cfg.r1_every == 0:
            rows = real.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.discriminator(rows).sum(), rows, create_graph=True)
            penalty = gradient.square().sum(1).mean()
            loss = loss + cfg.r1_weight / 2 * penalty * cfg.r1_every
        self.d_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.d_optimizer.step()
        return {"discriminator": loss.item()}

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly here."""
        return {
            "steps_done": self.steps_done,
            "finetuning": self.finetuning,
            "rng": self.rng.get_state(),
            "pools": [torch.stack(p.items) if p.items else torch.empty(0) for p in self.pools],
            "pool_rng": [list(p.rng.getstate()[1]) for p in self.pools],
            "encoder": self.encoder.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "d_optimizer": self.d_optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        for name in ("encoder", "discriminator", "optimizer", "d_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.steps_done, self.finetuning = state["steps_done"], state["finetuning"]
        self.rng.set_state(state["rng"])
        for pool, items, rng in zip(self.pools, state["pools"], state["pool_rng"], strict=True):
            pool.items = list(items)
            pool.rng.setstate((3, tuple(rng), None))
