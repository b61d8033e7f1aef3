"""The losses that trainings of inverters share, weighted and named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.alignment import SAMPLES, StyleAlignment
from ganinv.losses.distance import DistanceName, between, open_distance
from ganinv.losses.identity import face_area, open_face_embedding
from ganinv.losses.layered import LAYERS, LayersName, layered_loss
from ganinv.losses.similarity import open_similarity
from ganinv.reading.checkpoint import open_checkpoint

Terms = Mapping[str, tuple[float, Tensor]]
"""Name -> (weight, value)."""


class Examples(Protocol):
    """What the losses look at in a batch: ``target`` [B, C, R, R], and the latents ``true_w`` [G, num_ws, w_dim] of its last G
    images, which were generated; None when none were."""

    @property
    def target(self) -> Tensor: ...

    @property
    def true_w(self) -> Tensor | None: ...


class LossConfig(StrictModel):
    """Weights of the shared terms; one of 0 is not computed."""

    l2: float = Field(1.0, ge=0)
    """Mean squared error of pixels in [-1, 1]."""
    distance: float = Field(0.8, ge=0)
    """Perceptual distance, by the name in ``distance_name``."""
    distance_name: DistanceName = "embedded"
    identity: float = Field(0.0, ge=0)
    """1 - cosine of ArcFace embeddings; needs ``identity_weights``."""
    identity_weights: str | None = None
    """File of the ArcFace IR-SE-50 network."""
    similarity: float = Field(0.0, ge=0)
    """1 - cosine of MoCo v2 features, for what is not a face; needs ``similarity_weights``."""
    similarity_weights: str | None = None
    """File of MoCo v2's ResNet-50."""
    layered: Mapping[LayersName, float] = Field(default_factory=dict)
    """Network -> weight of the cosines of its features at several depths (E2Style): ``discriminator``, ``face``, ``parsing``."""
    layered_weights: Mapping[LayersName, str] = Field(default_factory=dict)
    """Files of these networks; of ``face`` by default ``identity_weights``."""
    crop_l2: float = Field(0.0, ge=0)
    """As ``l2``, where the face is in an FFHQ-aligned image (pSp's frontalisation)."""
    crop_distance: float = Field(0.0, ge=0)
    """As ``distance``, there."""
    alignment: float = Field(0.0, ge=0)
    """Distance of the code's styles to the generator's own (LSAP)."""
    alignment_beyond_samples: bool = True
    """Only what exceeds the samples' own distance, in units of it; False is LSAP's loss as published."""
    alignment_samples: int = Field(SAMPLES, ge=1)
    w_norm: float = Field(0.0, ge=0)
    """Norm of w - w_mean over all its rows (pSp)."""
    latent: float = Field(0.0, ge=0)
    """Squared distance to the true latent, summed over w_dim, mean over rows, in units of w_std^2; generated images only."""
    resolution: int | tuple[int, int] | None = None
    """Renderings and targets are averaged down to this side first (256 for the published recipes); None leaves them. Of a height
    and a width, the central part of that shape is taken (192x256 of a generator of cars, whose images have black bands)."""


class Losses:
    """``losses(rendered [B, C, R, R], batch, code) -> Terms``, on a generator."""

    def __init__(self, cfg: LossConfig, generator: Generator) -> None:
        self.cfg, self.generator = cfg, generator
        uses_distance = cfg.distance or cfg.crop_distance
        self.distance = open_distance(cfg.distance_name, generator) if uses_distance else None
        self.face = None
        if cfg.identity:
            if cfg.identity_weights is None:
                raise ConfigError(
                    "losses.identity needs the ArcFace network: set losses.identity_weights to its file, or identity to 0"
                )
            with open_checkpoint(cfg.identity_weights) as checkpoint:
                self.face = open_face_embedding(checkpoint.tree).to(generator.device)

        self.similarity = None
        if cfg.similarity:
            if cfg.similarity_weights is None:
                raise ConfigError(
                    "losses.similarity needs MoCo's network: set losses.similarity_weights to its file, or similarity to 0"
                )
            self.similarity = open_similarity(cfg.similarity_weights).to(generator.device)
        files = {"face": cfg.identity_weights, **cfg.layered_weights}
        self.layered = {
            name: LAYERS[name](generator, files.get(name)) for name, weight in cfg.layered.items() if weight
        }
        self.alignment = StyleAlignment(generator, cfg.alignment_samples) if cfg.alignment else None

    def __call__(
        self, rendered: Tensor, batch: Examples, code: Code, mask: Tensor | None = None, rows: int | None = None
    ) -> Terms:
        """The terms of renderings of ``code``.

        Args:
            rows: number of independent rows of the code, counted from the first; the others repeat one of them.
            mask: [B or 1, 1, R, R] in [0, 1]: where images are compared; outside, the target takes the rendering's place.
        """
        cfg = self.cfg
        target = batch.target
        if mask is not None:
            rendered = rendered * mask + target * (1 - mask)
        seen, wanted = (_sized(x, cfg.resolution) for x in (rendered, target))
        terms: dict[str, tuple[float, Tensor]] = {}
        if cfg.l2:
            terms["l2"] = (cfg.l2, F.mse_loss(seen, wanted))
        if cfg.distance:
            terms["distance"] = (cfg.distance, self._distance(seen, wanted))
        if cfg.crop_l2 or cfg.crop_distance:
            near, there = face_area(seen), face_area(wanted)
            if cfg.crop_l2:
                terms["crop_l2"] = (cfg.crop_l2, F.mse_loss(near, there))
            if cfg.crop_distance:
                if self.distance is not None and self.distance.name == "embedded":  # whose network halves its images
                    near, there = (F.interpolate(x, seen.shape[2:], mode="bilinear") for x in (near, there))
                terms["crop_distance"] = (cfg.crop_distance, self._distance(near, there))
        if self.face is not None:
            terms["identity"] = (cfg.identity, self.face.loss(seen, wanted))
        if self.similarity is not None:
            terms["similarity"] = (cfg.similarity, self.similarity.loss(seen, wanted))
        for name, layers in self.layered.items():
            terms[f"layered_{name}"] = (cfg.layered[name], layered_loss(layers, seen, wanted))
        if self.alignment is not None:
            beyond = cfg.alignment_beyond_samples
            terms["alignment"] = (cfg.alignment, self.alignment.loss(code.w, rows, beyond_samples=beyond))
        if cfg.w_norm:
            offset = code.w - self.generator.w_mean
            terms["w_norm"] = (cfg.w_norm, offset.flatten(1).norm(dim=1).mean())
        if cfg.latent and batch.true_w is not None and len(batch.true_w):
            scale = self.generator.w_std.square().clamp_min(1e-8)
            far = (code.w[-len(batch.true_w) :] - batch.true_w).square().sum(2).mean()
            terms["latent"] = (cfg.latent, far / scale)
        return terms

    def _distance(self, seen: Tensor, wanted: Tensor) -> Tensor:
        assert self.distance is not None
        known = [f.detach() for f in self.distance.features(wanted)]
        return between(self.distance.features(seen), known).mean()


def _sized(images: Tensor, size: int | tuple[int, int] | None) -> Tensor:
    if isinstance(size, tuple):
        height, width = images.shape[2:]
        rows, columns = min(height, round(width * size[0] / size[1])), min(width, round(height * size[1] / size[0]))
        top, left = (height - rows) // 2, (width - columns) // 2
        images = images[:, :, top : top + rows, left : left + columns]
        return F.adaptive_avg_pool2d(images, size) if rows > size[0] else images
    if size is None or images.shape[-1] <= size:
        return images
    return F.adaptive_avg_pool2d(images, size)
