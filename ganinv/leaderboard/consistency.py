"""Latent editing consistency of any method (Tov et al. 2021, "e4e", section 4): does an inversion find an edit again?"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ganinv.errors import DataError

Numbers = dict[str, np.ndarray]


def consistency(w: Tensor, again: Tensor, unedited: Tensor, step: Tensor) -> Numbers:
    """Compare the W+ of images with the W+ that their edited renderings were inverted to.

    The paper's distance ``||w - (again - step)||`` grows with the edit, so here it is divided by the length of the edit. An
    inversion that sees nothing of an edit, because it gives all images one code or because the rendering did not change, has 1.

    Args:
        w, again, unedited: [B, rows, w_dim], of the image, of the edited rendering, and of the unedited rendering.
        step: what the edit adds to w.

    Returns:
        ``lec`` [B]: that distance over the step's length; 0 is an inversion that finds every edit. ``found`` [B]: how far the
        code went along the edit; 1 is all of it. ``cycle`` [B]: the distance without an edit, ``||w - unedited||``, also over
        the step's length: what the method loses by inverting its own rendering.

    Raises:
        DataError: shapes differ, or the step has no length.
    """
    shapes = [tuple(x.shape) for x in (w, again, unedited, step)]
    if len(set(shapes)) > 1:
        raise DataError(f"expected latents and a step of one shape [B, rows, w_dim], got {shapes}")
    first, second, same, moved = (x.double().flatten(1) for x in (w, again, unedited, step))
    length = moved.norm(dim=1)
    if not (length > 0).all():
        raise DataError("an edit of no length has no consistency: give a direction and a strength that move w")
    gone = second - first
    lec = (gone - moved).norm(dim=1) / length
    found = (gone * moved).sum(1) / length.square()
    found_as = {"lec": lec, "found": found, "cycle": (same - first).norm(dim=1) / length}
    return {name: value.cpu().numpy() for name, value in found_as.items()}
