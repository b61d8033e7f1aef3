"""ReStyle (Alaluf et al. 2021, "A Residual-Based StyleGAN Encoder via Iterative Refinement"): encode, render, correct."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.methods.e4e import E4e, E4eConfig, NearW, NearWTerms
from ganinv.methods.inputs import fit, pool
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.methods.psp import Psp, PspConfig
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step


class ReStyleConfig(InverterConfig):
    """The shape of ReStyle: the encoder inside it, pSp's or e4e's, and how often it is called."""

    kind: Literal["restyle"] = "restyle"
    encoder: Annotated[PspConfig | E4eConfig, Field(discriminator="kind")]
    steps: int = Field(5, ge=1)
    """Passes at inference."""

    @model_validator(mode="after")
    def _sees(self) -> ReStyleConfig:
        if not self.encoder.sees_rendering:
            raise ValueError("ReStyle's encoder reads an image beside a rendering: set encoder.sees_rendering to true")
        return self

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        encoder: Mapping[str, Any] = {"kind": "psp", "sees_rendering": True, **given.get("encoder", {})}
        of_kind = {"psp": PspConfig, "e4e": E4eConfig}.get(str(encoder["kind"]), PspConfig)
        return {**given, "encoder": of_kind.for_generator(generator, encoder)}


class ReStyle(Inverter):
    """``restyle(images [B, 3, R, R] in [-1, 1]) -> Code`` after ``steps`` refinements of the mean latent.

    Each pass adds E(image, rendering so far) to the code; the first sees the rendering of the mean latent.
    """

    Config = ReStyleConfig
    cfg: ReStyleConfig

    def build(self) -> None:
        cfg = self.cfg
        self.encoder = Psp(cfg.encoder) if isinstance(cfg.encoder, PspConfig) else E4e(cfg.encoder)
        self.num_ws, self.w_dim = self.encoder.num_ws, self.encoder.w_dim

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        yield from self.look([images] * (steps or self.cfg.steps), code, detach=detach)

    def look(self, views: Sequence[Tensor], code: Code | None = None, *, detach: bool = False) -> Iterator[Code]:
        """As ``refine``, with as many passes as there are views [B, C, H, W] of the images: each pass sees the next one."""
        size = self.encoder.input_size
        if code is None:
            w = self.encoder.latent_avg.expand(len(views[0]), self.num_ws, -1)
            rendering = self.mean_rendering().expand(len(views[0]), -1, -1, -1)
        else:
            w, rendering = code.w, pool(self.generator.synthesize(code), size)
        for step, images in enumerate(views):
            if step:
                rendering = pool(self.generator.synthesize(Code(w=w)), size)
                w, rendering = (w.detach(), rendering.detach()) if detach else (w, rendering)
            w = w + self.correction(images, rendering)
            yield Code(w=w)

    def correction(self, images: Tensor, beside: Tensor) -> Tensor:
        """What one pass adds to the code [B, num_ws, w_dim], for images and what it sees beside them, [B, C, H, W] each."""
        size = self.encoder.input_size
        return self.encoder.offsets(torch.cat([fit(images, size), fit(beside, size)], dim=1))

    @torch.no_grad()
    def mean_rendering(self) -> Tensor:
        """What the first pass sees beside the image: the rendering of the mean latent [1, 3, *input_size]."""
        w = self.encoder.latent_avg.expand(1, self.num_ws, -1)
        return pool(self.generator.synthesize(Code(w=w)), self.encoder.input_size)


class ReStyleRecipe(NearW, InverterRecipe):
    """Training ReStyle (section 3.2): the losses of every pass are summed, and no gradient goes from one pass into the one
    before, whose code and rendering are inputs. On e4e's encoder the terms that hold codes near W are of every pass too."""

    kind: Literal["restyle"] = "restyle"
    passes: int = Field(5, ge=1)
    """Passes in training; the published recipes and inference take 5."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return ReStyleLearner(self, new_inverter(ReStyle, self, generator, needed, start), finetuning=start is not None)


class ReStyleLearner(InverterLearner[ReStyle, ReStyleRecipe]):
    """One step of ReStyle's training: as many backward passes as there are passes.

    Args:
        finetuning: all rows of an e4e encoder have their delta from the first step on.
    """

    def __init__(self, recipe: ReStyleRecipe, inverter: ReStyle, *, finetuning: bool = False) -> None:
        super().__init__(recipe, inverter)
        self.near_w = None
        if isinstance(inverter.encoder, E4e):
            self.near_w = NearWTerms(recipe, self.generator, finetuning=finetuning)
            self.players = self.near_w.players

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        stage, rows, judged = 0, None, None
        if self.near_w is not None and isinstance(self.network.encoder, E4e):
            stage = self.network.encoder.stage = self.near_w.stage(step)
            rows = stage + 1
        for number, code in enumerate(self.network.refine(batch.images, steps=self.recipe.passes, detach=True)):
            terms = self.losses(self.generator.synthesize(code), batch, code, rows=rows)
            if self.near_w is None:
                yield terms
                continue
            if (
                number == 0
            ):  # once for each batch, on whole codes of the first pass (the published code forgets the mean)
                judged = self.near_w.learn(code.w, stage, step)
            yield {**terms, **self.near_w(code.w, stage, judged)}
