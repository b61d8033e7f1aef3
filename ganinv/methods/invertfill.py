"""InvertFill (Yu et al. 2022, "High-Fidelity Image Inpainting with GAN Inversion"): an encoder of images with holes into F&W+.

Written from the paper's abstract and summaries of its follow-up (MMInvertFill): no code was ever published, and layer sizes, loss
weights and the rate of the soft mean are this project's own. It is not the authors' model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganinv.codes.code import Code, Feature
from ganinv.generators.sites import find_site, site_shape
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.distance import gram
from ganinv.losses.terms import Terms
from ganinv.methods.adversary import AdversarialLearner, AdversarialRecipe
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.inputs import fit, with_holes
from ganinv.methods.learning import new_inverter
from ganinv.methods.rows import COARSE_ROWS, MEDIUM_ROWS
from ganinv.networks.inpainting import SMALLEST, HoleEncoder, PreModulation
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step

MISSING = "hole"  # what batches call the mask of what is missing
DIFFERENT = 0.02  # of a value in [-1, 1]: more than rounding to 8 bits does


class InvertFillConfig(InverterConfig):
    """The shape of InvertFill."""

    kind: Literal["invertfill"] = "invertfill"
    resolution: int = Field(ge=32)
    """Height and width of the images that it reads."""
    num_ws: int = Field(ge=1)
    w_dim: int
    img_channels: int = 3
    base_channels: int = Field(16, ge=8, multiple_of=8)
    """Width of the encoder at full size; eight times as wide where it is widest."""
    bottlenecks: int = Field(3, ge=1)
    hidden: int = Field(16, ge=4)
    """Width of the heads of the rows."""
    sites: Mapping[str, tuple[int, int]]
    """Where features enter, ``block[k]``: their channels and side, from 8 up to ``finest``; and ``const``, of 4 pixels."""
    finest: int = Field(16, ge=4)
    """The largest side: finer ones keep more of what is known, and show more of where it ends."""

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        shape = super().for_generator(generator, given)
        finest = int(shape.setdefault("finest", min(32, max(8, generator.resolution // 4))))
        names = [find_site(f"block[{2 * b}]", generator) for b in range(1, len(generator.cfg.channels))]
        found = {name: tuple(site_shape(name, generator)) for name in names}
        sites = {"const": (generator.cfg.channels[0], SMALLEST)}
        return {**shape, "sites": sites | {n: (c, side) for n, (c, side) in found.items() if side <= finest}}


class InvertFill(Inverter):
    """``fill(images [B, 3, R, R] in [-1, 1], holes=[B, 1, R, R]) -> Code``: W+, a constant, and what is added to features where
    pixels are known.

    Features are zero where nothing is known, so what is in a hole comes of the latent and of what spreads from its border. The
    latent is ``latent_avg`` plus offsets; in training that mean moves softly with the latents that are drawn.
    """

    Config = InvertFillConfig
    sees_holes = True
    cfg: InvertFillConfig
    latent_avg: Tensor

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.resolution, cfg.resolution)
        self.encoder = HoleEncoder(cfg.resolution, cfg.img_channels, cfg.base_channels, cfg.bottlenecks)
        sides = [max(8, cfg.resolution // share) for share in (8, 4, 2)]
        self.sides = [sides[0 if row < COARSE_ROWS else 1 if row < MEDIUM_ROWS else 2] for row in range(cfg.num_ws)]
        widths = self.encoder.widths
        self.rows = nn.ModuleList(PreModulation(widths[side], side, cfg.w_dim, cfg.hidden) for side in self.sides)
        self.features = nn.ModuleDict()
        for name, (channels, side) in cfg.sites.items():
            projection = nn.Conv2d(widths[side], channels, 1)
            nn.init.zeros_(projection.weight)
            assert projection.bias is not None
            nn.init.zeros_(projection.bias)
            self.features[_module(name)] = projection
        self.register_buffer("latent_avg", torch.zeros(cfg.w_dim))

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        code, _ = self.read(images)
        yield code

    def read(self, images: Tensor) -> tuple[Code, dict[int, Tensor]]:
        """Images with holes [B, C + 1, R, R] (``inputs.with_holes``) to the code, and what the encoder itself paints, by side."""
        images = fit(images, self.input_size)
        holes = images[:, -1:]
        maps, pictures = self.encoder(images)
        shares = {side: F.adaptive_avg_pool2d(1 - holes, side) for side in maps}
        offsets = [row(maps[side], shares[side]) for row, side in zip(self.rows, self.sides, strict=True)]
        inserted = {
            name: shares[side] * self.features[_module(name)](maps[side]) for name, (_, side) in self.cfg.sites.items()
        }
        const = self.generator.synthesis.const + inserted.pop("const")
        features = {name: Feature(add=value) for name, value in inserted.items()}
        return Code(w=torch.stack(offsets, dim=1) + self.latent_avg, const=const, features=features), pictures


def _module(site: str) -> str:
    """A site as the name of a submodule."""
    return site.replace("[", "_").replace("]", "")


class InvertFillRecipe(AdversarialRecipe):
    """Training InvertFill: what is known and what is missing are weighed apart, textures are compared by their Gram matrices, and
    a discriminator sees what is known with what was filled in. ``data.degrade`` makes the holes."""

    kind: Literal["invertfill"] = "invertfill"
    known: float = Field(1.0, ge=0)
    """Weight of the absolute error where pixels are known."""
    hole: float = Field(6.0, ge=0)
    """And where they are missing; 1 and 6 are those of partial convolutions (Liu et al. 2018, section 3.3)."""
    style: float = Field(0.0, ge=0)
    """Weight of the difference of Gram matrices, of the rendering and of the composite, on the features of the distance; as a
    share of the target's, so that the weight fits features of any scale."""
    variation: float = Field(0.1, ge=0)
    """Weight of the total variation of the composite within the hole and one pixel around it."""
    painted: float = Field(0.5, ge=0)
    """Weight of the absolute error of what the encoder itself paints, mean over its sizes."""
    soft_mean: float = Field(0.001, ge=0, le=1)
    """How far the mean latent moves towards that of as many drawn latents as there are images, each step."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return InvertFillLearner(self, new_inverter(InvertFill, self, generator, needed, start))


class InvertFillLearner(AdversarialLearner[InvertFill, InvertFillRecipe]):
    """One step of InvertFill's training."""

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        recipe, target = self.recipe, batch.target
        hole = batch.masks.get(MISSING, torch.zeros_like(target[:, :1]))
        self._move_mean(step)
        code, pictures = self.network.read(with_holes(batch.images, hole))
        shown = self.generator.synthesize(code)
        whole = target + hole * (shown - target)
        error = (shown - target).abs()
        terms = dict(self.losses(shown, batch, code))
        terms["known"] = (recipe.known, (error * (1 - hole)).mean())
        terms["hole"] = (recipe.hole, (error * hole).mean())
        if recipe.style and self.losses.distance is not None:
            terms["style"] = (recipe.style, self._style(shown, whole, target))
        if recipe.variation:
            terms["variation"] = (recipe.variation, variation(whole, hole))
        if recipe.painted:
            missed = [
                (picture - F.adaptive_avg_pool2d(target, side)).abs().mean() for side, picture in pictures.items()
            ]
            terms["painted"] = (recipe.painted, torch.stack(missed).mean())
        yield {**terms, **self.adversary.terms(whole, batch, step)}

    def _style(self, shown: Tensor, whole: Tensor, target: Tensor) -> Tensor:
        distance = self.losses.distance
        assert distance is not None
        with torch.no_grad():
            wanted = [gram(f) for f in distance.features(target) if f.ndim == 4]
        parts = []
        for images in (shown, whole):
            found = [gram(f) for f in distance.features(images) if f.ndim == 4]
            parts += [
                (a - b).abs().mean() / b.abs().mean().clamp_min(1e-12) for a, b in zip(found, wanted, strict=True)
            ]
        return torch.stack(parts).sum() if parts else shown.new_zeros(())

    @torch.no_grad()
    def _move_mean(self, step: Step) -> None:
        """The soft mean: every worker draws the same, so that all keep one mean."""
        rng = Step(step.number, step.total, step.seed).stream("soft mean")
        z = torch.randn(self.recipe.batch_size, self.generator.z_dim, generator=rng).to(self.network.latent_avg)
        drawn = self.generator.map_all(z)[:, 0].mean(0)
        self.network.latent_avg.lerp_(drawn.float(), self.recipe.soft_mean)

    def examine(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Where an image differs from what it should be, its pixels are missing."""
        holes = ((images - target).abs().amax(dim=1, keepdim=True) > DIFFERENT).to(images)
        code = self.network(images, holes=holes)
        return target, self.generator.synthesize(code).clamp(-1, 1)


def variation(images: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of which one at least lies in the hole [B, 1, R, R]."""
    total = images.new_zeros(())
    for dim in (2, 3):
        one, two = images.narrow(dim, 1, images.shape[dim] - 1), images.narrow(dim, 0, images.shape[dim] - 1)
        near = torch.maximum(hole.narrow(dim, 1, hole.shape[dim] - 1), hole.narrow(dim, 0, hole.shape[dim] - 1))
        total = total + ((one - two).abs() * near).mean()
    return total
