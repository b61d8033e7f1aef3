"""What Image2StyleGAN++ (Abdal et al. 2020) does with its building blocks: every function takes an ``Embedder``, images
[B, 3, R, R] in [-1, 1] and masks [B or 1, 1, R, R] in [0, 1], and returns a ``Code`` with noise maps.

``original_noise(code, generator)`` of a result renders it without the detail in the noise.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ganinv.codes.code import Code
from ganinv.editing.activation_tensors import copy_activations
from ganinv.editing.embedding import Embedder, ImagePart
from ganinv.editing.masks import blurred
from ganinv.losses.distance import DistanceName
from ganinv.stages.objective import ReconstructionLoss


def reconstruct(embedder: Embedder, images: Tensor, mask: Tensor | None = None) -> Code:
    """Embed images, or with a mask what it shows of them (a partial embedding: the rest is up to the generator)."""
    parts = [ImagePart(images, mask)]
    return embedder.noise(parts, embedder.latent(parts), free=mask)


def crossover(embedder: Embedder, inside: Tensor, outside: Tensor, mask: Tensor) -> Code:
    """One image inside the mask and another one outside, as one face. Blur the mask (``blurred``) to hide the seam."""
    parts = [ImagePart(inside, mask), ImagePart(outside, 1 - mask)]
    return embedder.noise(parts, embedder.latent(parts))


def inpaint(
    embedder: Embedder,
    images: Tensor,
    hole: Tensor,
    rows: tuple[int, int] | None = None,
    *,
    dispersion: float = 10.0,
    feather: float | None = None,
) -> Code:
    """Fill the hole with what the generator makes of the surroundings. Nothing of the images inside the hole is seen.

    All of W+ would fit the surroundings at the price of what fills the hole, so its freedom is limited.

    Args:
        hole: more than 0 is missing.
        rows: the rows of W+ that move, from the mean latent (the paper's limit). None moves all rows as one, in W: the
            most plausible filling.
        dispersion: how strongly the latent is held near the mean (``ReconstructionLoss.dispersion_weight``).
        feather: pixels (R/32 by default) over which the surroundings go over from the latent's rendering, at the hole,
            to the image's own detail.
    """
    seen = (hole == 0).to(images)
    known = images * seen
    held = embedder.cfg.loss.model_copy(update={"dispersion_weight": dispersion})
    part = ImagePart(known, blurred(seen) * seen, held)  # soft towards the known side only
    code = embedder.latent([part], space="w" if rows is None else "w+", rows=rows)
    width = images.shape[-1] / 32 if feather is None else feather
    return _detailed(embedder, code, known, (2 * blurred(seen, width) - 1).clamp_min(0) * seen)


def local_style(
    embedder: Embedder,
    content: Tensor,
    style: Tensor,
    mask: Tensor,
    start: Code | None = None,
    *,
    weight: float = 100.0,
    distance: DistanceName = "gram-embedded",
) -> Code:
    """Inside the mask the content image; outside it, only the style (Gram matrices) of the same region of another one.

    Args:
        start: codes of the content, whose shapes stay where the style leaves them; embedded here when None.
        weight: of the style; 100 shows on the embedded generator. distance: ``gram-vgg16`` is the paper's, where its
            weights are at hand.
    """
    if start is None:
        start = embedder.latent([ImagePart(content)])
    look = ReconstructionLoss(distance=distance, distance_weight=weight, mse_weight=0.0)
    code = embedder.latent([ImagePart(content, mask), ImagePart(style, 1 - mask, look)], start)
    return _detailed(embedder, code, content, mask)


def scribble(
    embedder: Embedder,
    images: Tensor,
    drawn: Tensor,
    start: Code | None = None,
    *,
    rows: tuple[int, int] | None = None,
    steps: int = 50,
) -> Code:
    """Make a drawing on images part of them: few steps from the images' codes, in few rows, so that the result stays a face.

    Args:
        drawn: the same images with the scribbles on them.
        start: codes of ``images``; embedded here when None.
        rows: the rows of W+ that move.
    """
    if start is None:
        start = embedder.latent([ImagePart(images)])
    code = embedder.latent([ImagePart(drawn)], start, rows=rows, steps=steps)
    untouched = ((images - drawn).abs().amax(dim=1, keepdim=True) == 0).to(images)
    return _detailed(embedder, code, images, blurred(untouched) * untouched)


def transfer(embedder: Embedder, code: Code, source: Code, layers: Sequence[int], mask: Tensor) -> Code:
    """An attribute of another image by its activations (``copy_activations``), embedded again, so that edits work on it.

    Args:
        code, source: of the images that get and give it.
        layers: the convolutions whose activations are copied; the paper's are those of 4 to 64 pixels.
        mask: where.
    """
    copied = copy_activations(embedder.generator, code, source, layers, mask)
    return reconstruct(embedder, embedder.generator.render(copied))


def _detailed(embedder: Embedder, code: Code, images: Tensor, mask: Tensor) -> Code:
    """The detail of the images inside the mask; outside it the code's own rendering stays as it is."""
    own = embedder.generator.render(code)
    return embedder.noise([ImagePart(images, mask), ImagePart(own, 1 - mask)], code, free=mask)
