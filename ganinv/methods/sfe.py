"""The inverter of StyleFeatureEditor (Bobkov et al. 2024, "The Devil is in the Details: StyleFeatureEditor for Detail-Rich
StyleGAN Inversion and High Quality Image Editing", sections 4.1 and 4.2): W+, and the generator's features at one site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code, Feature
from ganinv.generators.sites import site_number
from ganinv.generators.stylegan2 import Generator
from ganinv.generators.synthesis import SynthesisState
from ganinv.losses.terms import Terms
from ganinv.methods.adversary import AdversarialLearner, AdversarialRecipe
from ganinv.methods.feature_site import FeatureSiteConfig, FeatureSiteInverter, continued
from ganinv.methods.inputs import fit
from ganinv.methods.learning import new_inverter
from ganinv.methods.rows import COARSE_ROWS, MEDIUM_ROWS, ask
from ganinv.networks.blocks import PyramidBackbone, RowHead, zero_
from ganinv.networks.feature_units import (
    POOLED,
    FeatureStyleTrunk,
    PublishedFuser,
    SmallContent,
    SmallFuser,
    content_layers,
    to_side,
)
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step

MAP_SIDES = (8, 16, 32)  # of the small backbone, coarse first


class SfeConfig(FeatureSiteConfig):
    """The shape of the inverter: small, for this project's generators, or as published."""

    kind: Literal["sfe"] = "sfe"
    resolution: int
    """Height and width of the images that it reads."""
    num_ws: int = Field(ge=1)
    w_dim: int
    img_channels: int = 3
    backbone: Literal["small", "iresnet-50"] = "small"
    """``iresnet-50`` is the published one; its fuser gives the features themselves, the small one a correction to the
    generator's, in units of their standard deviation."""
    base_channels: int = Field(16, ge=8)
    """Width of the small backbone at full size."""
    pyramid_channels: int = Field(96, ge=8)
    """Width of the small backbone's maps."""
    hidden: int = Field(16, ge=4)
    """Width of the small heads of the rows."""
    heads: int | None = None
    """Rows that a published file has, where that is more than the generator has: 18. The first are used."""
    latent_avg_per_row: bool = False
    """``latent_avg`` is [num_ws, w_dim], not [w_dim]."""

    @model_validator(mode="after")
    def _check(self) -> SfeConfig:
        if self.heads is not None and (self.heads < self.num_ws or self.backbone == "small"):
            raise ValueError(
                f"heads: {self.heads} are fewer than the {self.num_ws} rows, or of the small backbone: leave it out"
            )
        return self


class Parts(NamedTuple):
    """What one pass over images gives.

    Args:
        code: with the latent alone. own: the generator's pass up to the site, whose ``x`` are its own features.
        features: [B, C, r, r], what takes their place.
    """

    code: Code
    own: SynthesisState
    features: Tensor


class Sfe(FeatureSiteInverter):
    """``sfe(images [B, 3, R, R] in [-1, 1]) -> Code``: w, and a replacement of the features at ``cfg.site``.

    Without an editor of features, edits follow the default rule of stored features, F' = F + G(w') - G(w).
    """

    Config = SfeConfig
    cfg: SfeConfig
    latent_avg: Tensor

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.resolution, cfg.resolution)
        self.heads = nn.ModuleList()
        if cfg.backbone == "small":
            self.backbone: nn.Module = PyramidBackbone(
                cfg.resolution, cfg.img_channels, cfg.base_channels, cfg.pyramid_channels
            )
            self.levels = [0 if row < COARSE_ROWS else 1 if row < MEDIUM_ROWS else 2 for row in range(cfg.num_ws)]
            for level in self.levels:
                head = RowHead(cfg.pyramid_channels, MAP_SIDES[level], cfg.w_dim, cfg.hidden)
                zero_(head.linear)  # training starts from the mean latent
                self.heads.append(head)
            self.level = min(range(3), key=lambda i: (MAP_SIDES[i] < cfg.side, abs(MAP_SIDES[i] - cfg.side)))
            self.content: nn.Module = SmallContent(
                cfg.pyramid_channels, cfg.img_channels, cfg.resolution, cfg.side, cfg.width
            )
            self.fuser: nn.Module = SmallFuser(cfg.width + cfg.channels, cfg.channels, cfg.width, cfg.units)
        else:
            self.backbone = FeatureStyleTrunk(cfg.img_channels)
            read = POOLED**2 * sum(FeatureStyleTrunk.widths)
            self.heads.extend(nn.Linear(read, cfg.w_dim) for _ in range(cfg.heads or cfg.num_ws))
            self.content = content_layers(FeatureStyleTrunk.widths[2], cfg.channels)
            self.fuser = PublishedFuser(2 * cfg.channels, cfg.channels, cfg.units)
        self.register_buffer(
            "latent_avg", torch.zeros((cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else cfg.w_dim)
        )
        super().build()

    def bind(self, generator: Generator) -> None:
        if self.cfg.backbone == "iresnet-50" and generator.num_ws < self.num_ws:
            self._take_rows(generator.num_ws)
        super().bind(generator)

    def _take_rows(self, num_ws: int) -> None:
        """Use only the first ``num_ws`` heads: published files have 18, for generators of up to 1024 pixels."""
        self.cfg = self.cfg.model_copy(update={"num_ws": num_ws, "heads": len(self.heads)})
        self.num_ws = num_ws
        if self.cfg.latent_avg_per_row:
            self.latent_avg = self.latent_avg[:num_ws]

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        parts = self.parts(images, code)
        features = {**(parts.code.features or {}), self.cfg.site: Feature(replace=parts.features)}
        yield replace(parts.code, features=features)

    def parts(self, images: Tensor, code: Code | None = None) -> Parts:
        """Latent and features of images [B, C, H, W]; with ``code``, its latent in place of an own one."""
        images = fit(images, self.input_size)
        w, content = self._read(images)
        if code is None:
            code = Code(w=w)
        else:
            code = replace(
                code, features={s: f for s, f in (code.features or {}).items() if s != self.cfg.site} or None
            )
        own = self.generator.synthesize(code, stop=site_number(self.cfg.site))
        return Parts(code, own, self.fused(content, own.x))

    def _read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images of ``input_size`` to w [B, num_ws, w_dim] and what the fuser reads of them, [B, C', r, r]."""
        maps = self.backbone(images)
        if self.cfg.backbone == "small":
            rows = ask(self.heads, self.levels, maps)
            content = self.content(maps[self.level], images)
        else:
            pooled = FeatureStyleTrunk.pooled(maps)
            rows = [head(pooled) for head in self.heads[: self.cfg.num_ws]]
            content = to_side(self.content(maps[2]), self.cfg.side)
        return torch.stack(rows, dim=1) + self.latent_avg, content

    def fused(self, content: Tensor, own: Tensor) -> Tensor:
        """What was read of an image, and the generator's own features [B, C, r, r], to the features that are inserted."""
        if self.cfg.backbone != "small":
            return self.fuser(torch.cat([content, own.to(content.dtype)], dim=1))
        mean, std = self.feature_units
        return own + std * self.fuser(torch.cat([content, (own - mean) / std], dim=1))


class SfeRecipe(AdversarialRecipe):
    """Phase 1 (section 4.3): the shared losses on two renderings, with the features and of the latent alone, and features that
    stay near the generator's own. Default weights are the published ones."""

    kind: Literal["sfe"] = "sfe"
    plain: float = Field(1.0, ge=0)
    """Weight of the losses of the rendering from the latent alone, which keeps it meaningful."""
    feature: float = Field(0.01, ge=0)
    """Weight of the squared distance of the features to the generator's own. The published code has this; the paper writes the
    norm of the features."""
    in_std: bool = False
    """That distance is in units of the features' standard deviation."""
    fade_in: int = Field(10_000, ge=0)
    """Steps over which the features take the place of the generator's own."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        inverter = new_inverter(Sfe, self, generator, needed, start)
        if start is None:
            inverter.measure_units()
        return SfeLearner(self, inverter, finetuning=start is not None)


class SfeLearner(AdversarialLearner[Sfe, SfeRecipe]):
    """One step of phase 1. ``finetuning``: the features count in full from the first step on."""

    def __init__(self, recipe: SfeRecipe, inverter: Sfe, *, finetuning: bool = False) -> None:
        super().__init__(recipe, inverter)
        self.finetuning = finetuning

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        recipe, network = self.recipe, self.network
        parts = network.parts(batch.images)
        share = 1.0 if self.finetuning or not recipe.fade_in else min(1.0, step.number / recipe.fade_in)
        inserted = parts.own.x + share * (parts.features - parts.own.x)
        shown = continued(self.generator, parts.code, parts.own, inserted)
        terms = dict(self.losses(shown, batch, parts.code))
        of_code: dict[str, tuple[float, Tensor]] = {
            name: terms.pop(name) for name in ("latent", "w_norm") if name in terms
        }
        judged = shown
        if recipe.plain:
            rendered = self.generator.synthesize(parts.code, start=parts.own)
            judged = torch.cat([shown, rendered])
            alone = self.losses(rendered, batch, parts.code)
            terms |= {
                f"plain_{n}": (recipe.plain * weight, value) for n, (weight, value) in alone.items() if n not in of_code
            }
        unit = network.feature_std[:, None, None] if recipe.in_std else 1.0
        moved = ((parts.features - parts.own.x) / unit).square().mean()
        adversarial = self.adversary.terms(judged, batch, step)
        yield {**terms, **of_code, "feature": (recipe.feature, moved), **adversarial}
