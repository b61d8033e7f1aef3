"""SAM inversion (Parmar et al. 2022, "Spatially-Adaptive Multilayer Selection for GAN Inversion and Editing").

What W+ can hold stays in W+, where edits act; other parts of an image get offsets to the features of a later layer, the earliest
that is good enough. Which part is which is told from the image alone by predicted errors, and evened out over segments. There is
no face in it anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, TypeAdapter, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code, Feature, Masked
from ganinv.codes.parts import masked
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.channels import as_rgb
from ganinv.generators.sites import Site, SiteShape, find_site, site_number, site_shape, site_statistics
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.segmenters import Segmenter, open_segmenter
from ganinv.losses.distance import error_map, halved, open_distance
from ganinv.losses.terms import Terms
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.feature_site import check_features
from ganinv.methods.inputs import fit
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.methods.selection import binary_masks, choose_spaces, grid_segments
from ganinv.networks.invertibility import ErrorMaps, SiteEncoder, Trunk
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step

PUBLISHED_THRESHOLD = 0.225
"""Of LPIPS on VGG, for faces and cars."""


class SamConfig(InverterConfig):
    """The shape of SAM: its sites from coarse to fine, and how a part of an image is chosen.

    In a recipe ``sites`` may be named by meaning.
    """

    kind: Literal["sam"] = "sam"
    sites: tuple[str, ...] = Field(min_length=1)
    """From coarse to fine: the later, the more faithful and the less editable."""
    shapes: tuple[tuple[int, int], ...] | None = None
    """Channels and side of the features at each; null takes those of the generator, whatever they are."""
    img_channels: int = 3
    side: int = Field(256, ge=32)
    """Of the images that errors are predicted for, in pixels."""
    trunk: Trunk = "deeplab"
    base_channels: int = Field(16, ge=8)
    """Width of the small networks at full size."""
    encoders: bool = False
    """Offsets are predicted, by an encoder for each site. Without, they begin at zero and a stage optimises them."""
    threshold: float | None = Field(None, ge=0)
    """The largest error that a space may be predicted to have in a segment. None takes what training measured (``share``)."""
    in_units: bool = True
    """Offsets are in standard deviations of the site's features, measured when training begins; published ones are not."""
    share: float = Field(0.5, ge=0, le=1)
    """Of the area that is to stay in W+: training sets the threshold at this quantile of W+'s predicted errors."""
    segmenter: str | None = None
    """What parts an image into segments: a name of ``configs/segmenters`` or a path. None is a grid."""
    grid: int = Field(8, ge=1)
    """Segments in a row of the grid."""

    @model_validator(mode="after")
    def _check(self) -> SamConfig:
        if self.shapes is not None and len(self.sites) != len(self.shapes):
            raise ValueError(f"{len(self.sites)} sites and {len(self.shapes)} shapes: give one for each")
        if self.encoders and self.shapes is None:
            raise ValueError("encoders are made for features of known shapes: give shapes")
        numbers = [site_number(site) for site in self.sites]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"sites go from coarse to fine, each once; got {list(self.sites)}")
        return self

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """The blocks of 16 to 128 pixels, as published; of a generator below 256 pixels all but the first and the last."""
        adapter: TypeAdapter[Any] = TypeAdapter(Site)
        blocks = range(2, 6) if generator.resolution >= 256 else range(1, max(2, len(generator.cfg.channels) - 1))
        default = [f"block[{2 * b}]" for b in blocks]
        sites = [find_site(adapter.validate_python(site), generator) for site in given.get("sites", default)]
        shape = {
            "shapes": [tuple(site_shape(site, generator)) for site in sites],
            "img_channels": generator.img_channels,
            "side": min(256, generator.resolution),
        }
        return {**shape, **given, "sites": sites}


class Sam(Inverter):
    """``sam(images [B, C, R, R] in [-1, 1]) -> Code`` in W+ with offsets at several sites, each within a mask of its own.

    ``needed["encoder"]`` gives the latent (e4e). An edit of W+ acts everywhere where the latent is all there is; what an offset
    corrected is held still up to its site (section 3.4).
    """

    Config = SamConfig
    needs = ("encoder",)
    cfg: SamConfig
    threshold: Tensor
    deviations: Tensor
    shapes: list[SiteShape]

    def build(self) -> None:
        cfg = self.cfg
        spaces = 1 + len(cfg.sites)
        self.input_size = (cfg.side, cfg.side)
        self.errors = ErrorMaps(
            spaces, trunk=cfg.trunk, in_channels=cfg.img_channels, resolution=cfg.side, base_channels=cfg.base_channels
        )
        self.encoders = nn.ModuleList(
            SiteEncoder(channels, side, cfg.side, 2 * cfg.img_channels, cfg.base_channels)
            for channels, side in (cfg.shapes or ())
            if cfg.encoders
        )
        self.register_buffer("threshold", torch.tensor(PUBLISHED_THRESHOLD))
        self.register_buffer("deviations", torch.ones(len(cfg.sites)))
        self._segmenter: Segmenter | None = None

    def bind(self, generator: Generator) -> None:
        super().bind(generator)
        self.shapes = [site_shape(find_site(site, generator), generator) for site in self.cfg.sites]
        for site, own in zip(self.cfg.sites, self.cfg.shapes or self.shapes, strict=True):
            check_features(self.cfg.kind, site, own, generator)

    def begin(self) -> None:
        """Measure the unit of the features at each site."""
        if not self.cfg.in_units:
            return
        for i, site in enumerate(self.cfg.sites):
            self.deviations[i] = site_statistics(site, self.generator)[1].square().mean().sqrt()

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        code = self.need("encoder")(images) if code is None else replace(code, features=None)
        images = fit(images, self.input_size)
        masks = binary_masks(self.choose(images), [shape.side for shape in self.shapes])
        offsets = self.offsets(images, code)
        features = {
            site: Feature(add=Masked(offset, mask.to(offset)))
            for site, offset, mask in zip(self.cfg.sites, offsets, masks, strict=True)
        }
        yield replace(code, features=features)

    def choose(self, images: Tensor) -> Tensor:
        """The number of the space of each pixel of images [B, C, side, side]: 0 is W+, then the sites. int64 [B, side, side]."""
        limit = self.threshold.item() if self.cfg.threshold is None else self.cfg.threshold
        return choose_spaces(self.errors(images), self.segments(images), float(limit))

    def segments(self, images: Tensor) -> Tensor:
        """A label for every pixel of images [B, C, side, side]: int64 [B, side, side]."""
        if self.cfg.segmenter is None:
            labels = grid_segments(self.cfg.side, self.cfg.grid).to(images.device)
            return labels.expand(len(images), -1, -1)
        if self._segmenter is None:
            self._segmenter = open_segmenter(self.cfg.segmenter)
        return self._segmenter(as_rgb(images))

    def offsets(self, images: Tensor, code: Code) -> list[Tensor]:
        """What is added at each site if it is added everywhere: [B, channels, side, side]; zero where nothing predicts it."""
        if not self.encoders:
            return [code.w.new_zeros(len(code), channels, side, side) for channels, side in self.shapes]
        shown = fit(self.generator.synthesize(code), self.input_size).clamp(-1, 1)
        seen = torch.cat([images, shown], dim=1)
        return [encoder(seen) * unit for encoder, unit in zip(self.encoders, self.deviations, strict=True)]

    @torch.no_grad()
    def after_edit(self, images: Tensor | None, code: Code, edited: Code) -> Code:
        """Corrected features of the inversion stay where the masks show them, and the edit acts in all the rest: everywhere for
        parts in W+, above its site for the others. With binary masks an edit of nothing changes nothing."""
        given = {site: f.add for site, f in (code.features or {}).items() if f.add is not None}
        if not given:
            return edited
        last = max(site_number(site) for site in given)
        _, corrected = self.generator.synthesize(code, stop=last, capture=list(given))
        features = dict(edited.features or {})
        for site, add in given.items():
            features[site] = Feature(replace=Masked(corrected[site], masked(add).mask))
        return replace(edited, features=features)


class SingleSpace(StrictModel):
    """How a training image is inverted in one space alone, by optimisation (section 3.1): in W+, with one site's offset."""

    steps: int = Field(501, ge=1)
    lr: float = Field(0.05, gt=0)
    """Adam's, of latents and offsets."""
    prior: float = Field(5.0, ge=0)
    """Weight of the mean squared offset."""


class SamRecipe(InverterRecipe):
    """Training SAM (sections 3.1 and 3.3): an encoder of offsets for each site, alone and on whole images, and the predictor of
    the errors that are left.

    The published predictor learned from images that were inverted by optimisation, space by space, which ``optimised`` asks for.
    By default it learns the errors of the encoders of the same training, so that one recipe makes all of it.
    """

    kind: Literal["sam"] = "sam"
    needed: Mapping[str, str] = Field(default_factory=lambda: {"encoder": "e4e"})
    prior: float = Field(0.01, ge=0)
    """Weight of the mean squared offset, in squared standard deviations of the site's features."""
    errors: float = Field(1.0, ge=0)
    """Weight of the squared difference between predicted and measured errors."""
    errors_in: float = Field(1.0, gt=0)
    """Measured errors are divided by this first: the unit of the predicted ones, and of the threshold."""
    optimised: SingleSpace | None = None
    """Errors are those of images inverted by optimisation, in each step anew: exact, and hundreds of times as slow."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        recipe = self.model_copy(update={"inverter": {"encoders": self.optimised is None, **self.inverter}})
        return SamLearner(recipe, new_inverter(Sam, recipe, generator, needed, start))


class SamLearner(InverterLearner[Sam, SamRecipe]):
    """One step of SAM's training: a backward pass for each encoder, and one for the predicted errors."""

    def __init__(self, recipe: SamRecipe, sam: Sam) -> None:
        super().__init__(recipe, sam)
        if not sam.cfg.encoders and recipe.optimised is None:
            raise ConfigError(
                "without encoders there are no errors to learn: leave inverter.encoders out, or ask for optimised ones "
                "(optimised: {steps: 501})"
            )
        name = recipe.losses.distance_name
        self.distance = self.losses.distance or open_distance(name, self.generator)

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        sam, recipe = self.network, self.recipe
        with torch.no_grad():
            code = sam.need("encoder")(batch.images)
            shown = self.generator.synthesize(code)
            known = self._features(batch.target)
        images, rendering = (fit(x, sam.input_size) for x in (batch.images, shown.clamp(-1, 1)))
        seen = torch.cat([images, rendering], dim=1)
        measured = [self._errors(shown, known)]
        sites = sam.cfg.sites if sam.encoders else ()
        for site, encoder, unit in zip(sites, sam.encoders, sam.deviations[: len(sites)], strict=True):
            offset = encoder(seen)
            whole = replace(code, features={site: Feature(add=offset * unit)})
            rendered = self.generator.synthesize(whole)
            terms = {f"{name} {site}": term for name, term in self.losses(rendered, batch, whole).items()}
            yield {**terms, f"prior {site}": (recipe.prior, offset.square().mean())}
            measured.append(self._errors(rendered, known))
        if recipe.optimised is not None:
            spaces = (None, *sam.cfg.sites)
            measured = [self._errors(self.inverted(code, site, batch, recipe.optimised), known) for site in spaces]
        predicted = sam.errors(images)
        target = torch.cat(measured, dim=1) / recipe.errors_in
        yield {"errors": (recipe.errors, F.mse_loss(predicted, target))}
        self._follow(predicted.detach(), step)

    def inverted(self, code: Code, site: str | None, batch: Batch, how: SingleSpace) -> Tensor:
        """Renderings [B, C, R, R] of the batch's images, optimised from ``code`` in W+ and, with a site, its offset as well."""
        w = code.w.detach().clone().requires_grad_(True)
        variables = [w]
        if site is not None:
            channels, side = site_shape(site, self.generator)
            variables.append(torch.zeros(len(w), channels, side, side, device=w.device, requires_grad=True))

        def rendered() -> Tensor:
            features = None if site is None else {site: Feature(add=variables[1])}
            return self.generator.synthesize(Code(w=w, features=features))

        adam = torch.optim.Adam(variables, lr=how.lr)
        with torch.enable_grad():
            for number in range(how.steps):
                done = number / how.steps
                adam.param_groups[0]["lr"] = how.lr * min(1.0, done / 0.05 + 1e-3) * _cosine_end(done)
                terms = self.losses(rendered(), batch, Code(w=w))
                loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
                if site is not None:
                    loss = loss + how.prior * variables[1].square().mean()
                adam.zero_grad(set_to_none=True)
                (loss * len(w)).backward()  # each image as if it were alone
                adam.step()
        with torch.no_grad():
            return rendered()

    @torch.no_grad()
    def _errors(self, rendered: Tensor, known: Any) -> Tensor:
        return error_map(self._features(rendered), known, self.network.cfg.side)

    def _features(self, images: Tensor) -> Any:
        side = self.recipe.losses.resolution  # a crop would put errors in other places
        return self.distance.features(halved(images, side if isinstance(side, int) else None))

    def _follow(self, predicted: Tensor, step: Step) -> None:
        """The threshold goes with the errors that are predicted for W+: a mean over the last steps of their quantile."""
        sam = self.network
        segments = F.adaptive_avg_pool2d(predicted[:, :1], min(sam.cfg.grid, sam.cfg.side)).flatten()
        now = segments.quantile(sam.cfg.share)
        sam.threshold.copy_(now if step.number == 0 else torch.lerp(sam.threshold, now, 0.05))


def _cosine_end(done: float) -> float:
    """The learning rate falls along a cosine over the last quarter."""
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - done) / 0.25))
