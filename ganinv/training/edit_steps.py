"""Edits for trainings that need some and have no labels: steps in W+ that the generator itself can render."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.generators.stylegan2 import Generator


class EditStepsConfig(StrictModel):
    """How edits are drawn, each image's own.

    A share ``towards`` of them goes towards another mapped latent, w + a (w_r - w) / 10 (StyleRes, Pehlivan et al. 2023,
    section 3.3); the others go along principal components of W (GANSpace, Härkönen et al. 2020, section 2).
    """

    towards: float = Field(1.0, ge=0, le=1)
    strength: tuple[float, float] = (4.0, 5.0)
    """The a above, uniform between."""
    components: int = Field(20, ge=1)
    """The first so many, one for each edit."""
    deviations: float = Field(2.0, gt=0)
    """Along a component: uniform up to so many of its standard deviations, to either side."""
    some_rows: float = Field(0.0, ge=0, le=1)
    """Share of the edits that move a range of rows alone, as edits of ``smile(0-3)`` do."""

    @model_validator(mode="after")
    def _check(self) -> EditStepsConfig:
        if not 0 <= self.strength[0] <= self.strength[1]:
            raise ValueError(f"strength must be a range from the smaller to the larger, got {list(self.strength)}")
        return self


class EditSteps:
    """``steps.draw(w [B, num_ws, w_dim], rng) -> [B, num_ws, w_dim]``: what is added to each latent."""

    def __init__(self, cfg: EditStepsConfig, generator: Generator) -> None:
        self.cfg, self.generator = cfg, generator
        self._components = None if cfg.towards == 1.0 else principal_components(generator, cfg.components)

    @torch.no_grad()
    def draw(self, w: Tensor, rng: torch.Generator) -> Tensor:
        """Edits of the latents. Draws come from ``rng``, on the CPU."""
        cfg, count = self.cfg, len(w)
        z = torch.randn(count, self.generator.z_dim, generator=rng).to(w)
        low, high = cfg.strength
        strength = (low + (high - low) * torch.rand(count, 1, 1, generator=rng)).to(w)
        step = strength / 10 * (self.generator.map_all(z) - w)
        if self._components is not None:
            which = torch.randint(len(self._components), (count,), generator=rng).to(w.device)
            far = (cfg.deviations * (2 * torch.rand(count, 1, generator=rng) - 1)).to(w)
            along = (far * self._components[which])[:, None].expand_as(w)
            chosen = (torch.rand(count, 1, 1, generator=rng) < cfg.towards).to(w.device)
            step = torch.where(chosen, step, along)
        if cfg.some_rows:
            step = step * self._rows(count, w.shape[1], rng).to(w)
        return step

    def _rows(self, count: int, rows: int, rng: torch.Generator) -> Tensor:
        """[B, rows, 1] of ones and zeros: for each image a range of at least a third of the rows, or all."""
        ends = torch.randint(rows, (count, 2), generator=rng)
        first, last = ends.min(1).values, ends.max(1).values
        last = torch.maximum(last, (first + rows // 3).clamp_max(rows - 1))
        every = torch.rand(count, generator=rng) >= self.cfg.some_rows
        place = torch.arange(rows)
        inside = (place >= first[:, None]) & (place <= last[:, None])
        return (inside | every[:, None])[..., None].float()


@torch.no_grad()
def principal_components(generator: Generator, count: int, samples: int = 2000, seed: int = 123) -> Tensor:
    """The first components of W [count, w_dim], each as long as one standard deviation of the mapped latents along it."""
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(samples, generator.z_dim, generator=rng).to(generator.w_mean)
    w = generator.map_all(z)[:, 0].double().cpu()
    _, sizes, rows = torch.linalg.svd(w - w.mean(0), full_matrices=False)
    scaled = rows * sizes[:, None] / samples**0.5
    return scaled[:count].to(generator.w_mean)
