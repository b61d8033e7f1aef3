"""Tune: Pivotal Tuning Inversion (Roich et al. 2022), for many images at once.

The latent is frozen and the generator learns to render the image from it. Every image has its own weights: an offset to
the shared generator with a batch dimension, dense or of low rank, its own optimiser state, and its own stop. Or all images
share one generator (``together``).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.losses.distance import between
from ganinv.optim.batched import Adam, BatchedMuon
from ganinv.stages.base import Context, StageResult
from ganinv.stages.descent import Descent, Stop
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.together import tune_together
from ganinv.stages.variables import DescentStep, WeightForm, Weights
from ganinv.target import Target


class Locality(StrictModel):
    """The locality regulariser (section 3.3): near the pivot, the tuned generator stays what it was.

    At w_r = pivot + alpha * (w_z - pivot) / |w_z - pivot| the tuned image should equal the original one. ``norm: tensor``
    takes the length over all rows (the published code), ``norm: row`` over one row (the paper's text).
    """

    mse_weight: float = Field(0.1, ge=0)
    distance_weight: float = Field(0.1, ge=0)
    alpha: float = Field(30.0, gt=0)
    norm: Literal["tensor", "row"] = "tensor"
    truncation_psi: float = 0.5


class Tune(StrictModel):
    """Fine-tune the synthesis network around the frozen latent of each image.

    The mapping network and the noise maps are never touched. A weight is ``W + offset`` in the result's
    ``Code.weights``; ``form: styles`` gives ``Code.styles`` and biases.
    """

    iterative: ClassVar[bool] = True

    kind: Literal["tune"] = "tune"
    steps: int = Field(350, ge=1)
    lr: float = Field(3e-4, gt=0)
    lr_rampdown: float = Field(0.0, ge=0, le=1)
    """Share of the steps over which the learning rate falls linearly to zero."""
    optimizer: Literal["adam", "muon"] = "adam"
    """``muon``: orthogonal steps for weights and factors, with ``lr`` the size of their elements."""
    loss: ReconstructionLoss = ReconstructionLoss()
    stop: Stop = Stop()
    form: WeightForm = "dense"
    rank: int = Field(8, ge=1)
    """Of ``form: low-rank``."""
    layers: tuple[str, ...] = ("*",)
    """Which parameters of the synthesis train, as patterns: ``*``, ``convs.*.weight``, ``torgbs.*``."""
    locality: Locality | None = None
    together: bool = False
    """One generator for all images of the call (in a bulk run: of a folder), ``steps`` passes over them, instead of one for
    each. Their results then depend on each other; give it a locality where they are of several people, and few of them (the
    authors tried up to 64)."""
    at_once: int = Field(1, ge=1)
    """Images of one step, with ``together``: 1 is the authors' way, with small steps; frames of a video do better in groups."""

    @model_validator(mode="after")
    def _check(self) -> Tune:
        if self.together and self.stop != Stop():
            raise ValueError("images that are tuned together stop together: leave stop out")
        return self

    @property
    def shares(self) -> bool:
        """Whether images of a call depend on each other."""
        return self.together

    def __call__(self, target: Target, code: Code | None, context: Context) -> StageResult:
        if code is None:
            raise ValueError("tune needs a stage before it that makes the pivot, or stored codes")
        weights = Weights(self.form, self.rank, self.layers)
        objective = self.loss.prepare(target, context)
        local = LocalityLoss(self.locality, self.loss, context) if self.locality else None
        optimizer = BatchedMuon() if self.optimizer == "muon" else Adam()
        if self.together:
            return tune_together(
                target, code, weights, objective, context, optimizer,
                epochs=self.steps, at_once=self.at_once, lr=self.lr, schedule=self.lr_factor, extra_loss=local,
            )  # fmt: skip
        descent = Descent(
            [weights], optimizer, steps=self.steps, lr=self.lr,
            schedule=self.lr_factor, stop=self.stop, extra_loss=local,
        )  # fmt: skip
        return descent(target, code, objective, context)

    def lr_factor(self, t: float) -> float:
        """Learning-rate schedule at t in [0, 1): constant, then linear fall."""
        return min(1.0, (1 - t) / self.lr_rampdown) if self.lr_rampdown else 1.0


class LocalityLoss:
    """(code, moment) -> [B]: how far the tuned generator has moved near the pivot; zero before the first step."""

    def __init__(self, cfg: Locality, loss: ReconstructionLoss, context: Context) -> None:
        self.cfg, self.generator = cfg, context.generator
        self._distance = context.distance(loss.distance) if cfg.distance_weight else None

    def __call__(self, code: Code, moment: DescentStep) -> Tensor:
        cfg = self.cfg
        near = self.near(code.w, moment.normal("locality", (self.generator.z_dim,)))
        with torch.no_grad():
            before = self.generator.synthesize(Code(w=near), noise="none")
        after = self.generator.synthesize(Code(w=near, weights=code.weights, styles=code.styles), noise="none")
        loss = cfg.mse_weight * (after - before).square().mean(dim=(1, 2, 3))
        if self._distance is not None:
            with torch.no_grad():
                features = self._distance.features(before)
            loss = loss + cfg.distance_weight * between(self._distance.features(after), features)
        return loss

    def near(self, pivot: Tensor, z: Tensor) -> Tensor:
        """The latents [B, num_ws, w_dim] at distance ``alpha`` of the pivots, towards those of z [B, z_dim]."""
        w_z = self.generator.map_all(z, truncation_psi=self.cfg.truncation_psi)
        away = w_z - pivot
        length = away.square().sum(dim=(1, 2) if self.cfg.norm == "tensor" else 2, keepdim=True).sqrt()
        return pivot + self.cfg.alpha * away / length
