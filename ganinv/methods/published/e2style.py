"""E2Style's files: ``encoder_firststage.*``, ``encoder_refinestage_list.K.*``, ``decoder.*`` (Wei et al. 2022)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.methods.e2style import E2Style, E2StyleConfig
from ganinv.methods.published.description import EncoderDescription, Tensors, rows_of, size_of
from ganinv.methods.published.kinds import PublishedKind
from ganinv.networks import keymaps
from ganinv.networks.adopt import Lazy, adopt

FIRST, FURTHER = "encoder_firststage", "encoder_refinestage_list"
HEADS = ("output_layer_3", "output_layer_4", "output_layer_5")
"""Coarse, medium, fine."""


class PublishedE2Style(PublishedKind):
    """The three heads tell how many rows each gives; the last stage of each trunk is in the file and never ran."""

    parts = (FIRST, FURTHER)

    def holds(self, parts: Mapping[str, Tensors]) -> bool:
        return bool({FIRST, FURTHER} & parts.keys())

    def describe(
        self, parts: dict[str, Tensors], opts: dict[str, Any], latent_avg: Lazy | None, where: str
    ) -> EncoderDescription:
        if FIRST not in parts:
            raise WeightsRefused(f"{where} is an E2Style checkpoint without its {FIRST}.*")
        channels = parts[FIRST].get("input_layer.0.weight")
        if channels is None or any(f"{head}.3.weight" not in parts[FIRST] for head in HEADS):
            raise WeightsRefused(
                f"{where}: {FIRST} is no E2Style encoder as published: expected input_layer.0.weight and the heads "
                f"{', '.join(HEADS)}"
            )
        said = opts.get("training_stage")
        if isinstance(said, int) and said != 1 + _further(parts):
            raise WeightsRefused(
                f"{where}: its options say that it was trained to stage {said}, it holds {1 + _further(parts)} of them"
            )
        return EncoderDescription(
            method="e2style",
            encoder_type="E2Style",
            opts=opts,
            n_styles=rows_of(parts, opts, latent_avg, where),
            input_size=size_of(opts),
            input_channels=int(channels.shape[1]),
            latent_avg=latent_avg,
            parts=parts,
        )

    def build(self, what: EncoderDescription, latent_avg: Tensor | None, where: str) -> E2Style:
        if latent_avg is None:
            raise WeightsRefused(f"{where} has no latent_avg, which its first stage's output is added to")
        w_dim, first = latent_avg.shape[1], what.parts[FIRST]
        rows = [int(first[f"{head}.3.weight"].shape[0]) for head in HEADS]
        if sum(rows) != what.n_styles * w_dim or any(size % w_dim for size in rows):
            raise WeightsRefused(
                f"{where}: its heads give {sum(rows) / w_dim:g} rows of {w_dim}, the generator takes {what.n_styles}"
            )
        per_row = bool((latent_avg != latent_avg[0]).any())
        cfg = E2StyleConfig(
            resolution=what.input_size[1],
            input_height=what.input_size[0] if what.input_size[0] != what.input_size[1] else None,
            num_ws=what.n_styles,
            w_dim=w_dim,
            img_channels=what.input_channels,
            stages=1 + _further(what.parts),
            split=(rows[0] // w_dim, rows[1] // w_dim, rows[2] // w_dim),
            backbone="ir-se-50",
            latent_avg_per_row=per_row,
        )
        tensors = {f"{part}.{name}": t for part in self.parts for name, t in what.parts.get(part, {}).items()}
        unused = [name for name in tensors if re.search(r"\bbody\.(21|22|23)\.", name)]
        with torch.device("meta"):
            network = E2Style(cfg)
        tensors["latent_avg"] = latent_avg if per_row else latent_avg[0]
        return adopt(network, tensors, keymaps.e2style(cfg.stages, FIRST, FURTHER, HEADS), where, unused)


def _further(parts: Mapping[str, Tensors]) -> int:
    """Stages after the first."""
    found = [int(m[1]) for name in parts.get(FURTHER, {}) if (m := re.match(r"(\d{1,2})\.", name))]
    return max(found, default=-1) + 1


E2STYLE = PublishedE2Style()
