"""Embed images, or regions of several, in W+ and then in noise maps: the building blocks of Image2StyleGAN++ (Abdal et al.
2020). ``ganinv.editing.applications`` composes them.

The order matters. Latents come first, until they fit; then they are frozen and the noise maps take up the detail. Optimised
together, the noise would absorb structure that belongs to the latent, and edits would tear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code, Masked
from ganinv.codes.parts import masked
from ganinv.config import StrictModel
from ganinv.editing.masks import shrunk
from ganinv.errors import ConfigError, NotFinite
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.files import open_inverter
from ganinv.optim.batched import Adam
from ganinv.stages.base import Context
from ganinv.stages.descent import Descent
from ganinv.stages.objective import ReconstructionLoss, Together
from ganinv.stages.optimize import ramps
from ganinv.stages.variables import DescentStep, Latent, NoiseMaps, Tensors
from ganinv.target import Target


class EmbeddingConfig(StrictModel):
    """How images are embedded. The defaults suit the embedded generator; the paper takes 5000 and 3000 steps at 1024."""

    loss: ReconstructionLoss = ReconstructionLoss()
    """Of the latent's stage. ``distance: vgg16-features`` is the paper's, where its weights are at hand."""
    steps: int = Field(200, ge=1)
    lr: float = Field(0.05, gt=0)
    noise_steps: int = Field(150, ge=1)
    noise_lr: float = Field(0.1, gt=0)
    """For maps of unit variance. The paper's 5 belongs to the scale of StyleGAN-1's losses."""
    noise_strength: float = Field(0.1, gt=0)
    """Lent to layers without a noise strength of their own (``NoiseMaps``)."""


@dataclass(frozen=True)
class ImagePart:
    """One thing that an embedding is to reproduce.

    Args:
        images: [B, 3, R, R] in [-1, 1].
        mask: [B or 1, 1, R, R] in [0, 1], where; None is everywhere.
        loss: how the latent's stage measures it; None takes the embedder's.
    """

    images: Tensor
    mask: Tensor | None = None
    loss: ReconstructionLoss | None = None


class Embedder:
    """Embeds images in the latents and noise maps of a generator. Images of a batch do not influence each other."""

    def __init__(
        self, generator: Generator, config: EmbeddingConfig | None = None, *, seed: int = 0, lanes: int = 16
    ) -> None:
        self.generator, self.cfg = generator, config or EmbeddingConfig()
        self.context = Context(generator, partial(open_inverter, generator=generator), seed, lanes)

    def latent(
        self,
        parts: Sequence[ImagePart],
        start: Code | None = None,
        *,
        space: Literal["w", "w+"] = "w+",
        rows: tuple[int, int] | None = None,
        steps: int | None = None,
    ) -> Code:
        """Masked optimisation of the latent (the paper's W_l, and M_st where a part's loss is a Gram distance).

        Args:
            start: codes to begin from; the mean latent by default.
            space: ``w`` moves all rows as one.
            rows: in ``w+``, only rows [first, end) move.

        Raises:
            ConfigError: parts of different sizes, or not of the generator's.
            NotFinite: an image or its loss is NaN or infinite.
        """
        cfg = self.cfg
        if start is None:
            start = Code(w=self.generator.w_mean.expand(len(parts[0].images), self.generator.num_ws, -1))
        schedule = partial(ramps, up=0.05, down=0.25)
        descent = Descent([Latent(space, rows)], Adam(), steps=steps or cfg.steps, lr=cfg.lr, schedule=schedule)
        return self._run(descent, parts, start)

    def noise(self, parts: Sequence[ImagePart], code: Code, *, free: Tensor | None = None) -> Code:
        """Masked noise optimisation (the paper's Mk_n): squared error alone, the latents stay what they are.

        Args:
            free: [B or 1, 1, R, R], where the maps may move; they stay as they are at every position that is not wholly
                inside. None is everywhere.

        Raises: as :meth:`latent`.
        """
        cfg = self.cfg
        maps = NoiseMaps(strength=cfg.noise_strength)
        if free is not None:
            maps = NoiseInside(strength=cfg.noise_strength)
            code = maps.bounded(code, free, self.context)
        squared = [replace(part, loss=ReconstructionLoss(distance_weight=0.0)) for part in parts]
        return self._run(Descent([maps], Adam(), steps=cfg.noise_steps, lr=cfg.noise_lr), squared, code)

    def _run(self, descent: Descent, parts: Sequence[ImagePart], start: Code) -> Code:
        targets = [self._target(part) for part in parts]
        if len({len(target) for target in targets} | {len(start)}) > 1:
            raise ConfigError(f"one batch each: got parts of {[len(t) for t in targets]} images and {len(start)} codes")
        losses = [part.loss or self.cfg.loss for part in parts]
        objective = Together([loss.prepare(t, self.context) for loss, t in zip(losses, targets, strict=True)])
        result = descent(targets[0], start.to(self.generator.device), objective, self.context)
        if broken := [i for i, reason in enumerate(result.stop_reason) if reason == "not_finite"]:
            raise NotFinite(f"images {broken} of this batch, or their losses, are not finite (NaN or infinity)")
        return result.code

    def _target(self, part: ImagePart) -> Target:
        size, got = self.generator.resolution, list(part.images.shape)
        if got[1:] != [self.generator.img_channels, size, size]:
            raise ConfigError(f"images must be [B, {self.generator.img_channels}, {size}, {size}], got {got}")
        mask = part.mask
        if mask is not None:
            if mask.ndim != 4 or len(mask) not in (1, got[0]) or list(mask.shape[1:]) != [1, size, size]:
                raise ConfigError(
                    f"a mask of these images must be [{got[0]} or 1, 1, {size}, {size}], got {list(mask.shape)}"
                )
            mask = mask.expand(got[0], -1, -1, -1)
        return Target(part.images, masks=mask).to(self.generator.device)


@dataclass(frozen=True)
class NoiseInside(NoiseMaps):
    """Noise maps that move only where the code's ``noise`` has the mask 1, and keep their value elsewhere."""

    def bounded(self, code: Code, free: Tensor, context: Context) -> Code:
        """The code to begin from: its maps, masked. A position counts as inside when all pixels it covers do."""
        ids = [str(i) for i in range(len(code))]
        maps = {int(k): v for k, v in super().start(code, ids, context).items()}
        inside = (free > 0).to(code.w)
        return replace(code, noise={k: Masked(v, (shrunk(inside, v.shape[-1]) == 1).to(v)) for k, v in maps.items()})

    def start(self, code: Code, ids: Sequence[str], context: Context) -> dict[str, Tensor]:
        return {str(k): masked(v).value.clone() for k, v in (code.noise or {}).items()}

    def put(self, code: Code, values: Tensors, generator: Generator, moment: DescentStep | None) -> Code:
        held = {k: masked(v) for k, v in (code.noise or {}).items()}
        moved = {k: Masked(v, held[int(k)].mask).over(held[int(k)].value) for k, v in values.items()}
        return super().put(code, moved, generator, moment)
