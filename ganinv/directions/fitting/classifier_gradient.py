"""Label-based editing: a classifier's gradient, back to the latent (Hu et al. 2022, "Style Transformer", section 3.3).

g = d BCE(C(w), target) / dw for every sample, each row of W+ scaled to length 1; w' = w - strength * g. The direction is the
sample's own, not one for all; ``fit_classifier_gradient`` averages it into one. C is anything differentiable: a classifier
of latents, or any labeller on rendered images.

The first-order form is implemented. The published code's second-order form leaves a random probe of norm one per entry in the
direction, which is a mistake, and is not implemented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FitContext
from ganinv.directions.fitting.method import DirectionMethod, Fit
from ganinv.errors import ConfigError, DataError
from ganinv.generators.stylegan2 import Generator
from ganinv.labels.base import Labeller

LatentScores = Callable[[Tensor], Mapping[str, Tensor]]
"""w [B, L, D] to attribute -> log-odds [B], with gradients."""


class GradientConfig(StrictModel):
    """How a direction is made of gradients."""

    samples: int = Field(default=64, ge=1)
    """How many samples' directions are averaged into one."""
    protect: tuple[str, ...] = ()
    """Attributes whose gradients are projected out of each sample's direction, row by row."""
    rows: tuple[int, int] | None = None
    """W+ rows [start, end) that move; None is all of them."""


class ClassifierGradient(GradientConfig, DirectionMethod):
    """The method ``classifier-gradient``: per attribute the mean gradient of the labeller's own score.

    Args:
        layers: attribute -> W+ rows [start, end) that its direction moves; ``rows`` for other attributes.
    """

    method: Literal["classifier-gradient"] = "classifier-gradient"
    layers: Mapping[str, tuple[int, int]] = Field(default_factory=dict)

    def names(self, context: FitContext) -> list[str]:
        context.scored(self.layers)
        return context.attributes

    def fit(self, context: FitContext) -> Fit:
        def direction(attribute: str) -> Direction:
            context.has_gradient(attribute)
            found = fit_classifier_gradient(
                image_scores(context.generator, context.labeller),
                context.fresh(self.samples).w,
                attribute,
                context.generator,
                self.model_copy(update={"rows": self.layers.get(attribute, self.rows)}),
                positive_means=context.meaning(attribute),
                labeller=context.labeller.identity,
            )
            return context.calibrated(found, attribute)

        return direction


@dataclass(frozen=True)
class ClassifierGradientEditor:
    """Moves latents towards (or away from) an attribute, each along its own gradient.

    Args:
        scores: the classifier. attribute: what to change. protect: what to keep constant, to first order.
        target: the label to reach: 1 adds the attribute, 0 removes it.
        steps: the gradient is evaluated again after each of them; a step has length ``strength / steps``.
        rows: W+ rows [start, end) that move.
    """

    scores: LatentScores
    attribute: str
    target: float = 1.0
    protect: Sequence[str] = ()
    steps: int = 1
    rows: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.target <= 1:
            raise ConfigError(f"steps must be at least 1 and target in 0 .. 1, got {self.steps} and {self.target}")
        if self.attribute in self.protect:
            raise ConfigError(f"{self.attribute!r} is to be changed; it cannot be protected as well")

    def edit(self, w: Tensor, strength: float = 3.0) -> Tensor:
        """w [B, L, D], moved by ``strength`` per row in all (the published code takes 3)."""
        for _ in range(self.steps):
            w = w + strength / self.steps * self.direction(w)
        return w

    def direction(self, w: Tensor) -> Tensor:
        """[B, L, D], rows of length 1 that lead to the target (0 in rows that do not move, or have no gradient)."""
        names = [self.attribute, *self.protect]
        leaf = w.detach().requires_grad_()
        with torch.enable_grad():
            scores = self.scores(leaf)
            if missing := [name for name in names if name not in scores]:
                raise ConfigError(f"the classifier has no {', '.join(missing)}; there are: {', '.join(scores)}")
            losses = [_cross_entropy(scores[self.attribute], self.target).sum()]
            losses += [scores[name].sum() for name in self.protect]
            # Sums over the batch: a sample's gradient does not depend on the others.
            gradients = [torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in losses]
        towards = -gradients[0]
        if self.protect:
            towards = _without(towards, torch.stack(gradients[1:], -2))
        unit = _unit_rows(towards)
        if self.rows is not None:
            kept = torch.zeros(w.shape[1], 1, dtype=w.dtype, device=w.device)
            kept[self.rows[0] : self.rows[1]] = 1
            unit = unit * kept
        return unit.detach()


def image_scores(generator: Generator, labeller: Labeller) -> LatentScores:
    """Any labeller with gradients, on the images that latents render. Probabilities become log-odds.

    Raises:
        DataError: a labeller that passes no gradients on.
    """
    if not labeller.differentiable:
        raise DataError(f"labeller {labeller.identity} has no gradients; give one that runs in torch")

    def scores(w: Tensor) -> dict[str, Tensor]:
        found = labeller.score(generator.synthesize(Code(w=w)))
        return {
            name: torch.logit(values, 1e-6) if labeller.attributes[name].kind == "probability" else values
            for name, values in found.items()
        }

    return scores


def mean_gradients(
    scores: LatentScores, w: Tensor, attributes: Sequence[str], batch_size: int = 16
) -> dict[str, np.ndarray]:
    """Mean over samples of d score / dw: float64 [L, D] per attribute.

    To first order a step changes the mean score by its inner product with it. Orthogonal to it, a step leaves the mean
    score where it is, which a step along the plane of a fitted boundary need not do: boundaries inherit the correlations of
    the samples they were fitted on.

    Args:
        w: [N, L, D].

    Raises:
        ConfigError: the classifier has no such attribute. DataError: no samples.
    """
    if not len(w):
        raise DataError("mean gradients need at least one sample")
    total = {name: torch.zeros(w.shape[1:], dtype=torch.float64) for name in attributes}
    for part in w.split(batch_size):
        leaf = part.detach().requires_grad_()
        with torch.enable_grad():
            found = scores(leaf)
            if missing := [name for name in attributes if name not in found]:
                raise ConfigError(f"the classifier has no {', '.join(missing)}; there are: {', '.join(found)}")
            for name in attributes:
                total[name] += torch.autograd.grad(found[name].sum(), leaf, retain_graph=True)[0].double().sum(0).cpu()
    return {name: (gradient / len(w)).numpy() for name, gradient in total.items()}


def fit_classifier_gradient(
    scores: LatentScores,
    w: Tensor,
    attribute: str,
    generator: Generator,
    config: GradientConfig | None = None,
    *,
    batch_size: int = 16,
    positive_means: str = "",
    labeller: str | None = None,
) -> Direction:
    """The mean of the samples' directions as one direction of W+, each row of length 1.

    Args:
        w: [N, L, D]; the first ``config.samples`` of them are used.

    Its report has ``agreement``: the mean cosine of the samples' own directions with it. Near 1 one direction serves all;
    near 0 the attribute has none in common, and the editor is the better tool.

    Raises:
        DataError: no samples, or gradients that are all zero.
    """
    config = config or GradientConfig()
    editor = ClassifierGradientEditor(scores, attribute, protect=config.protect, rows=config.rows)
    used = w[: config.samples]
    if not len(used):
        raise DataError(f"attribute {attribute!r}: a direction of gradients needs at least one sample")
    own = torch.cat([editor.direction(part) for part in used.split(batch_size)]).double()
    mean = own.mean(0)
    start, end = config.rows or (0, w.shape[1])
    length = mean[start:end].norm(dim=-1, keepdim=True)
    if not (length > 0).all():
        raise DataError(
            f"attribute {attribute!r}: the classifier's gradient is zero in some rows; it does not see them"
        )
    vector = mean[start:end] / length
    agreement = F.cosine_similarity(own[:, start:end], vector, dim=-1).mean()
    return Direction(
        name=attribute,
        vector=vector.cpu().numpy().astype(np.float32),
        space="w+",
        generator_name=generator.name,
        generator_fingerprint=generator.fingerprint,
        method="classifier-gradient",
        layers=config.rows,
        positive_means=positive_means or f"higher score of {attribute}",
        labeller=labeller,
        report={
            "attribute": attribute,
            "samples": len(used),
            "protect": list(config.protect),
            "agreement": float(agreement),
        },
    )


def _cross_entropy(logits: Tensor, target: float) -> Tensor:
    """Binary cross entropy with logits, in a form whose gradient does not round to zero where the classifier is sure."""
    return target * F.softplus(-logits) + (1 - target) * F.softplus(logits)


def _unit_rows(x: Tensor) -> Tensor:
    """Rows of length 1, also of rows whose squares are too small for their type; zero stays zero."""
    largest = x.abs().amax(-1, keepdim=True)
    return F.normalize(torch.where(largest > 0, x / largest, x), dim=-1)


def _without(x: Tensor, others: Tensor) -> Tensor:
    """x [B, L, D] less its part in the span of others [B, L, K, D], row by row (a Gram solve in float64)."""
    basis = F.normalize(others.double(), dim=-1)
    gram = basis @ basis.transpose(-1, -2)
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    # A trace of the identity keeps parallel protected gradients, and rows without one, solvable.
    weights = torch.linalg.solve(gram + 1e-9 * eye, basis @ x.double()[..., None])
    return (x.double() - (basis.transpose(-1, -2) @ weights)[..., 0]).to(x.dtype)
