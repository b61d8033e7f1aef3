"""Inverters that change features of the generator at a site: whether it fits a generator, and what both networks of
StyleFeatureEditor (Bobkov et al. 2024) have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.sites import Site, find_site, site_shape, site_statistics
from ganinv.generators.stylegan2 import Generator
from ganinv.generators.synthesis import SynthesisState
from ganinv.methods.base import Inverter, InverterConfig


def check_features(kind: str, site: str, own: tuple[int, int], generator: Generator) -> None:
    """Whether the features that an inverter of this kind makes or changes at a site are those of a generator.

    Args:
        own: channels and side of the inverter's.

    Raises:
        ConfigError: the generator has no such site.
        GeneratorMismatch: its features have another shape there.
    """
    there = site_shape(find_site(site, generator), generator)
    if there != tuple(own):
        raise GeneratorMismatch(
            f"this {kind} changes features of {own[0]}x{own[1]}x{own[1]} at {site}; those of generator {generator.name!r} are "
            f"{there.channels}x{there.side}x{there.side}: open the generator that it was trained for, or train one for this"
        )


class FeatureSiteConfig(InverterConfig):
    """What both networks of StyleFeatureEditor say of the site whose features they make."""

    site: str
    """``block[k]``: the features that go on to the next resolution. The image below keeps what the latent gave it."""
    side: int
    """Their height and width."""
    channels: int
    """Their channels."""
    width: int = Field(96, ge=8, multiple_of=8)
    """Of the small networks."""
    units: int = Field(3, ge=1)
    """Residual units of the network that makes them."""

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """The site that ``given`` names, by number or by meaning (``{resolution: 1/4, kind: block}``); by default the one at the
        same share of the layers as block[8] has of the published 17."""
        middle = f"block[{2 * round((generator.cfg.num_convs - 1) / 4)}]"
        asked: Any = validate(Site, given.get("site") or middle, f"{cls.__name__}.site")  # type: ignore[arg-type]
        site = find_site(asked, generator)
        if not site.startswith("block"):
            raise ConfigError(
                f"features at {site} would change the image of their own resolution too: give a site of kind block, such as "
                f"{middle}"
            )
        channels, side = site_shape(site, generator)
        rest = {name: value for name, value in given.items() if name != "site"}
        shape = super().for_generator(generator, rest)
        return {**shape, "site": site, "side": side, "channels": channels}


class FeatureSiteInverter(Inverter):
    """Makes the features at ``cfg.site``. Its small networks see and give them in units of the generator's own there."""

    cfg: FeatureSiteConfig
    feature_mean: Tensor
    feature_std: Tensor

    def build(self) -> None:
        self.register_buffer("feature_mean", torch.zeros(self.cfg.channels))
        self.register_buffer("feature_std", torch.ones(self.cfg.channels))

    def bind(self, generator: Generator) -> None:
        super().bind(generator)
        try:
            check_features(self.cfg.kind, self.cfg.site, (self.cfg.channels, self.cfg.side), generator)
        except ConfigError as error:
            raise GeneratorMismatch(f"this {self.cfg.kind} makes features for {self.cfg.site}: {error}") from None

    @torch.no_grad()
    def measure_units(self) -> None:
        """Set the units to those of its generator; recipes do so before the first step."""
        mean, std = site_statistics(self.cfg.site, self.generator)
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(std.clamp_min(1e-6))

    @property
    def feature_units(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the generator's features, [C, 1, 1] each."""
        return self.feature_mean[:, None, None], self.feature_std[:, None, None]


def continued(generator: Generator, code: Code, own: SynthesisState, features: Tensor) -> Tensor:
    """The images [B, C, R, R] of a pass that starts at the site with other features."""
    return generator.synthesize(code, start=own._replace(x=features))
