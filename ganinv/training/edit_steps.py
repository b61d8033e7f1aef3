"""Edits for trainings that need some and have no labels: steps in W+ that the generator itself can render."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.generators.stylegan2 import Generator
from ganinv.store import open_store


class EditStepsConfig(StrictModel):
    """How edits are drawn, each image's own.

    A share ``towards`` of them goes towards another mapped latent, w + a (w_r - w) / 10 (StyleRes, Pehlivan et al. 2023,
    section 3.3); the others go along principal components of W (GANSpace, Härkönen et al. 2020, section 2). Where there are
    labels, ``directions`` that were fitted with them stand for a share ``labelled`` of all.
    """

    towards: float = Field(1.0, ge=0, le=1)
    strength: tuple[float, float] = (4.0, 5.0)
    """The a above, uniform between."""
    components: int = Field(20, ge=1)
    """How many of the first components are used, one per edit."""
    deviations: float = Field(2.0, gt=0)
    """Largest step along a component, in its standard deviations; drawn uniformly, in both directions."""
    labelled: float = Field(0.0, ge=0, le=1)
    """Share of the edits along directions of a store."""
    directions: tuple[str, ...] = ()
    """Their names, one for each edit."""
    store: str | None = None
    """URL of the store that has them."""
    units: float = Field(2.0, gt=0)
    """Along one of them: uniform up to a strength of so much, to either side."""
    some_rows: float = Field(0.0, ge=0, le=1)
    """Share of the edits that move a range of rows alone, as edits of ``smile(0-3)`` do."""

    @model_validator(mode="after")
    def _check(self) -> EditStepsConfig:
        if not 0 <= self.strength[0] <= self.strength[1]:
            raise ValueError(f"strength must be a range from the smaller to the larger, got {list(self.strength)}")
        if bool(self.labelled) != bool(self.directions) or bool(self.directions) != (self.store is not None):
            raise ValueError("edits along directions need all three: labelled, directions, and the store that has them")
        return self


class EditSteps:
    """``steps.draw(w [B, num_ws, w_dim], rng) -> [B, num_ws, w_dim]``: what is added to each latent.

    Raises:
        ConfigError, GeneratorMismatch: a direction that the store does not have, or has for another generator.
    """

    def __init__(self, cfg: EditStepsConfig, generator: Generator) -> None:
        self.cfg, self.generator = cfg, generator
        self._components = None if cfg.towards == 1.0 else principal_components(generator, cfg.components)
        self._directions: list[Direction] = []
        if cfg.store is not None:
            there = open_store(cfg.store).directions
            self._directions = [there.get(name, generator.fingerprint) for name in cfg.directions]

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
        if self._directions:
            step = self._along_directions(w, step, rng)
        if cfg.some_rows:
            step = step * self._rows(count, w.shape[1], rng).to(w)
        return step

    def _along_directions(self, w: Tensor, step: Tensor, rng: torch.Generator) -> Tensor:
        """``step``, with a share of the images moved along a direction instead."""
        count = len(w)
        which = torch.randint(len(self._directions), (count,), generator=rng)
        strength = (self.cfg.units * (2 * torch.rand(count, generator=rng) - 1)).to(w)
        chosen = torch.rand(count, generator=rng) < self.cfg.labelled
        for number, direction in enumerate(self._directions):
            own = (chosen & (which == number)).to(w.device)
            step = torch.where(own[:, None, None], direction.step(w, strength), step)
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
