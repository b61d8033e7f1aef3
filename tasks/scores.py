"""Scores of rendered latents, for the steps that compute and store them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ganinv.codes.code import Code
from ganinv.directions.measuring.effects import rendering_batch
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import Labeller, labeller_names


def labeller_state(name: str, labeller: Labeller) -> dict[str, Any]:
    """What a plan must know of a labeller beside its name: a file of the user's may hold another one tomorrow."""
    return {} if name in labeller_names() else {"labeller_provenance": labeller.provenance}


def score_column(values: Sequence[Any]) -> pa.Array:
    """A column of scores; a missing one (NaN) is null, so that Parquet's own validity says which are there."""
    return pa.array(np.asarray(values, dtype=np.float32), pa.float32(), from_pandas=True)


def scores_of(
    generator: Generator, labeller: Labeller, w: torch.Tensor, psi: float | torch.Tensor, ids: Sequence[str]
) -> dict[str, np.ndarray]:
    """Scores of w [B, num_ws, w_dim], rendered with truncation ``psi`` if the labeller needs images."""
    images = None
    if labeller.needs == "images":
        code = Code(w=generator.w_mean.lerp(w, torch.as_tensor(psi, device=w.device)))
        images = generator.render(code, rendering_batch(generator))
    return {name: values.cpu().numpy() for name, values in labeller(images, ids).items()}
