"""Second players of a training of inverters."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.stylegan2 import Generator
from ganinv.networks.blocks import LatentDiscriminator
from ganinv.training.parallel import average_gradients, gathered
from ganinv.training.step import Step


class LatentCriticConfig(StrictModel):
    """Settings of a latent discriminator; the published ones of e4e."""

    lr: float = Field(2e-5, gt=0)
    r1_weight: float = 10.0
    r1_every: int = Field(16, ge=1)
    pool_size: int = Field(50, ge=0)


class LatentPool:
    """Pool of past rows (Shrivastava et al. 2017): half of what is returned is old once the pool is full."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: list[Tensor] = []

    def query(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        """Rows [N, w_dim] in, as many out; what comes in takes the place of what goes out."""
        out = []
        for row in rows:
            if len(self.items) < self.size:
                self.items.append(row)
                out.append(row)
            elif self.size and torch.rand((), generator=rng) < 0.5:
                slot = int(torch.randint(self.size, (), generator=rng))
                out.append(self.items[slot])
                self.items[slot] = row
            else:
                out.append(row)
        return torch.stack(out)


class LatentCritic:
    """Tells rows of encoded latents from mapped ones (Nitzan et al. 2020; e4e, Tov et al. 2021, section 3.2)."""

    def __init__(self, cfg: LatentCriticConfig, generator: Generator) -> None:
        self.cfg, self.generator = cfg, generator
        self.discriminator = LatentDiscriminator(generator.w_dim).to(generator.device)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=cfg.lr)
        self.pools = [LatentPool(cfg.pool_size) for _ in range(2)]

    def learn(self, w: Tensor, rows: int, step: Step) -> Tensor:
        """One update on encodings w [B, num_ws, w_dim] (detached) and as many mapped latents. Returns its loss, detached.

        Args:
            rows: how many rows of w may be drawn, counted from the first.
        """
        cfg, rng = self.cfg, step.stream("latent critic", shared=True)
        # All workers hold the same pools, of everybody's rows, and learn from their share of what these return: a checkpoint
        # is one worker's.
        everyones = gathered(w, step.world)
        z = torch.randn(len(everyones), self.generator.z_dim, generator=rng).to(w.device)
        with torch.no_grad():
            reals = self.pools[0].query(self.generator.mapping(z), rng)
        row = torch.randint(rows, (len(everyones),), generator=rng).to(w.device)
        fakes = self.pools[1].query(everyones[torch.arange(len(everyones), device=w.device), row], rng)
        real, fake = (of_all.chunk(step.world)[step.rank] for of_all in (reals, fakes))
        loss = F.softplus(self.discriminator(fake)).mean() + F.softplus(-self.discriminator(real)).mean()
        if step.number % cfg.r1_every == 0:
            seen = real.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.discriminator(seen).sum(), seen, create_graph=True)
            loss = loss + cfg.r1_weight / 2 * gradient.square().sum(1).mean() * cfg.r1_every
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.discriminator.parameters(), step.world)
        self.optimizer.step()
        return loss.detach()

    def loss(self, rows: Tensor) -> Tensor:
        """The loss of encoded rows [N, w_dim], which are to look like mapped latents."""
        return F.softplus(-self.discriminator(rows)).mean()

    def state_dict(self) -> dict[str, Any]:
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pools": [torch.stack(p.items) if p.items else torch.empty(0) for p in self.pools],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
        for pool, items in zip(self.pools, state["pools"], strict=True):
            pool.items = [item.to(self.generator.device) for item in items]


class ImageCriticConfig(StrictModel):
    """Settings of an image discriminator that learns beside an inverter; by default those of In-Domain inversion."""

    start: Literal["generator", "scratch"] = "generator"
    """A copy of the generator's own discriminator, which keeps learning; or a network of its shape with random weights, the only
    option for a generator without one."""
    lr: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.99)
    r1_weight: float = Field(10.0, ge=0)
    """Gamma of R1 (Mescheder et al. 2018): half of it weighs the squared norm of the gradient towards real images."""
    r1_every: int = Field(1, ge=1)
    """Steps between two penalties, which weigh as much more."""


class ImageCritic:
    """Tells renderings of codes from real images (In-Domain inversion, Zhu et al. 2020, section 3.1; HFGI and others).

    The generator's own discriminator stays as it is: distances are measured with it.

    Raises:
        ConfigError: a copy was asked for and the generator comes with no discriminator, or with one of classes.
    """

    def __init__(self, cfg: ImageCriticConfig, generator: Generator) -> None:
        self.cfg, own = cfg, generator.discriminator
        if cfg.start == "generator":
            if own is None:
                raise ConfigError(
                    f"the critic is to begin as a copy of the discriminator of {generator.name!r}, which comes with none: set "
                    "critic.start to scratch, or take a generator file with its discriminator"
                )
            self.discriminator = copy.deepcopy(own)
        else:
            shape = (generator.resolution, generator.cfg.channels, generator.img_channels)
            self.discriminator = Discriminator(*shape) if own is None else Discriminator.from_config(own.cfg)
        if self.discriminator.cfg.c_dim:
            raise ConfigError(
                f"the discriminator of {generator.name!r} judges classes, and images of a data set have none: set critic.start "
                "to scratch for a generator without a discriminator, or leave the adversarial term out"
            )
        self.discriminator.to(generator.device).train().requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=cfg.lr, betas=cfg.betas)
        self.discriminator.requires_grad_(False)

    def learn(self, fake: Tensor, real: Tensor, step: Step, scale: float = 1.0) -> Tensor:
        """One update on renderings [B, C, R, R] (detached) and real images [N, C, R, R]. Returns its loss without the penalty.

        Args:
            scale: factor of the learning rate, such as ``recipe.schedule(step.number, step.total)``.
        """
        cfg, d = self.cfg, self.discriminator.requires_grad_(True)
        loss = F.softplus(d(fake.detach())).mean() + F.softplus(-d(real)).mean()
        penalised = loss
        if cfg.r1_weight and step.number % cfg.r1_every == 0:
            seen = real.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(d(seen).sum(), seen, create_graph=True)
            penalised = loss + cfg.r1_weight / 2 * gradient.square().flatten(1).sum(1).mean() * cfg.r1_every
        for group in self.optimizer.param_groups:
            group["lr"] = cfg.lr * scale
        self.optimizer.zero_grad(set_to_none=True)
        penalised.backward()
        average_gradients(d.parameters(), step.world)
        self.optimizer.step()
        d.requires_grad_(False)
        return loss.detach()

    def loss(self, fake: Tensor) -> Tensor:
        """The loss of renderings [B, C, R, R], which are to look real. Only they receive gradients."""
        return F.softplus(-self.discriminator(fake)).mean()

    def state_dict(self) -> dict[str, Any]:
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])
