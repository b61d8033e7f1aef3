"""Optimise a code of a frozen generator: the StyleGAN2 projector (Karras et al. 2020, appendix D), Image2StyleGAN (Abdal et al.
2019) and its noise maps (2020), In-Domain inversion (Zhu et al. 2020), and feature refinement are settings of it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.sites import Site
from ganinv.generators.stylegan2 import Generator
from ganinv.optim.batched import LBFGS, Adam
from ganinv.stages.base import Context, StageResult
from ganinv.stages.descent import Descent, Stop
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.variables import FeatureOffset, Latent, LatentSpace, NoiseMaps, Variable
from ganinv.target import Target


class NoiseSettings(StrictModel):
    """Noise maps as variables. The defaults are the projector's: they must not carry signal, and are drawn afresh."""

    start: Literal["random", "stored"] = "random"
    lr: float | None = Field(None, gt=0)
    regularization: float = Field(1e5, ge=0)
    normalize: bool = True
    """Zero mean and unit mean square after each step. Image2StyleGAN++ lets them carry detail: false, and no
    regularization, from the stored maps."""
    strength: float = Field(0.0, ge=0)
    """Noise strength for layers whose own is zero, where maps would have no effect: a generator that was trained
    without noise, such as the embedded one. Their maps start from zero."""
    keep: bool = True
    """The optimised maps are part of the result. False: they only help to find the latent, and are dropped (NVIDIA's
    projector, PTI); of a generator whose noise strengths are zero they are then not optimised at all."""

    @model_validator(mode="after")
    def _check(self) -> NoiseSettings:
        if self.strength and (self.normalize or self.start == "random"):
            raise ValueError(
                "noise_maps.strength is for maps that start from zero: set start: stored and normalize: false"
            )
        return self


EVERY = "*"


class FeatureSettings(StrictModel):
    """An offset to the features at one site as a variable, from zero; of features that an inverter put there, to those."""

    site: Site
    """``act[k]`` or ``block[k]``, as in ``Code.features``, or by meaning: ``{resolution: 1/4, kind: block}``. ``*`` is every site
    at which the code that it starts from adds something, whatever the generator: SAM's, each within its mask."""
    lr: float | None = Field(None, gt=0)
    unit: Literal["value", "deviation"] = "value"
    """What ``lr``, or the stage's, counts in: the features' own numbers, or the standard deviation of the site's features from
    image to image. DHR's published .09 is some three of them in the embedded generator, and edits do not survive that."""
    prior: float = Field(0.0, ge=0)
    """Weight of the mean squared offset in that unit: what holds offsets small (SAM inversion, Parmar et al. 2022: 5)."""


class Optimize(StrictModel):
    """Gradient descent on a latent, noise maps, features, or several of them, from the mean latent or the code so far.

    Losses are summed over the images and every image has its own random streams, so an image's result does not depend on
    its batch. Noise maps, when optimised, are part of the result and stay fixed in edits.
    """

    iterative: ClassVar[bool] = True

    kind: Literal["optimize"] = "optimize"
    space: LatentSpace | None = "w"
    """``w`` one row, ``w+`` all rows, ``s`` styles, ``z`` or ``z+`` through the mapping network; null: w stays."""
    start: Literal["mean", "random", "code"] = "mean"
    """``mean`` latent; ``random`` uniform in [-1, 1] (Image2StyleGAN, for images that are not faces), of each image its own;
    ``code``, the result of the previous stages, or stored codes."""
    rows: tuple[int, int] | None = None
    """In ``w+``: only rows [first, end) move."""
    steps: int = Field(200, ge=1)
    lr: float = Field(0.1, gt=0)
    lr_rampup: float = Field(0.05, ge=0, le=1)
    """Share of the steps over which the learning rate rises linearly from zero."""
    lr_rampdown: float = Field(0.25, ge=0, le=1)
    """Share of the steps over which it falls along a cosine to zero."""
    optimizer: Literal["adam", "lbfgs"] = "adam"
    loss: ReconstructionLoss = ReconstructionLoss()
    latent_noise: float = Field(0.05, ge=0)
    """Noise added to w, in units of ``w_std``; falls quadratically to zero at ``latent_noise_end``."""
    latent_noise_end: float = Field(0.75, gt=0, le=1)
    noise_maps: NoiseSettings | None = None
    features: tuple[FeatureSettings, ...] = ()
    stop: Stop = Stop()

    @model_validator(mode="after")
    def _check(self) -> Optimize:
        if self.space is None and self.noise_maps is None and not self.features:
            raise ValueError("nothing to optimise: give a space, noise_maps or features")
        if self.space is None and self.start != "code":
            raise ValueError("space: null keeps the code's latent, so it needs start: code")
        if self.start != "code" and any(f.site == EVERY for f in self.features):
            raise ValueError(f"site {EVERY!r} is where the code adds to features, so it needs start: code")
        if self.rows is not None and self.space != "w+":
            raise ValueError(f"rows are rows of w+, not of space {self.space!r}")
        if self.optimizer == "lbfgs" and (len(self._variables()) > 1 or self._noisy):
            raise ValueError("lbfgs moves one variable, without latent_noise; set latent_noise: 0, or use adam")
        return self

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        generator = context.generator
        if self.start == "mean":
            code = Code(w=context.mean_w(target).expand(-1, generator.num_ws, -1))
        elif self.start == "random":
            code = self._random(target, context)
        elif code is None:
            raise ValueError("optimize with start: code needs a stage before it that makes one, or stored codes")
        descent = Descent(
            self._variables(code, silent=_no_noise(code, generator)),
            Adam() if self.optimizer == "adam" else LBFGS(),
            steps=self.steps,
            lr=self.lr,
            schedule=self.lr_factor if self.optimizer == "adam" else lambda t: 1.0,
            stop=self.stop,
        )
        result = descent(target, code, self.loss.prepare(target, context), context)
        if self.noise_maps is not None and not self.noise_maps.keep:
            return replace(result, code=replace(result.code, noise=code.noise, weights=code.weights))
        return result

    def _random(self, target: Target, context: Context) -> Code:
        generator = context.generator
        shape = (1 if self.space == "w" else generator.num_ws, generator.w_dim)
        drawn = [2 * torch.rand(shape, generator=context.stream(i, "start")) - 1 for i in target.ids]
        return Code(w=torch.stack(drawn).to(generator.w_mean).expand(-1, generator.num_ws, -1))

    def lr_factor(self, t: float) -> float:
        """Learning-rate schedule at t in [0, 1): linear rise, plateau, cosine fall."""
        return ramps(t, self.lr_rampup, self.lr_rampdown)

    def _useless(self, maps: NoiseSettings) -> bool:
        return not maps.keep and not maps.strength and (self.space is not None or bool(self.features))

    @property
    def _noisy(self) -> bool:
        return self.latent_noise > 0 and self.space in ("w", "w+")

    def _variables(self, code: Code | None = None, silent: bool = False) -> list[Variable]:
        """What moves; ``code`` says which sites ``*`` are. ``silent``: maps change no image, so those that are not kept need not
        be there; the latent takes the same path without."""
        variables: list[Variable] = []
        if self.space is not None:
            variables.append(Latent(self.space, self.rows, self.latent_noise, self.latent_noise_end))
        if self.noise_maps is not None and not (silent and self._useless(self.noise_maps)):
            n = self.noise_maps
            variables.append(NoiseMaps(n.lr, n.regularization, n.normalize, n.start == "random", n.strength))
        for f in self.features:
            sites = [f.site] if f.site != EVERY or code is None else _sites_added_to(code)
            variables += [FeatureOffset(site, f.lr, f.unit == "deviation", f.prior) for site in sites]
        return variables


def _no_noise(code: Code, generator: Generator) -> bool:
    """Whether noise maps change nothing: every strength is zero, as in a generator that was trained without noise."""
    tuned = any(name.endswith("noise_strength") for name in code.weights or {})
    return not tuned and not any(bool(layer.noise_strength) for layer in generator.synthesis.convs)


def _sites_added_to(code: Code) -> list[str]:
    found = [site for site, feature in (code.features or {}).items() if feature.add is not None]
    if not found:
        raise ConfigError(
            f"features: site {EVERY!r} is where a code adds to features, and these add nowhere: put an encoder before it that "
            "does (sam), or name sites"
        )
    return found


def ramps(t: float, up: float, down: float) -> float:
    """The projector's learning-rate factor at t in [0, 1): a linear rise over the share ``up`` of the steps, a plateau, a
    cosine fall over the share ``down``."""
    falling = min(1.0, (1 - t) / down) if down else 1.0
    rising = min(1.0, t / up) if up else 1.0
    return (0.5 - 0.5 * math.cos(math.pi * falling)) * rising
