"""E2Style's files: ``encoder_firststage.*``, ``encoder_refinestage_list.K.*``, ``decoder.*`` (Wei et al. 2022)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.methods.e2style import E2Style, E2StyleConfig
from ganinv.methods.published.description import EncoderDescription, Tensors, described, stored_mean
from ganinv.methods.published.kinds import PublishedKind
from ganinv.networks import keymaps
from ganinv.networks.adopt import Lazy, adopt_new

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
                f"{where}: {FIRST} is not an E2Style encoder as published: expected input_layer.0.weight and the heads "
                f"{', '.join(HEADS)}"
            )
        said = opts.get("training_stage")
        if isinstance(said, int) and said != 1 + _further(parts):
            raise WeightsRefused(
                f"{where}: its options say that it was trained to stage {said}, it holds {1 + _further(parts)} of them"
            )
        return described("e2style", "E2Style", int(channels.shape[1]), parts, opts, latent_avg, where)

    def build(self, what: EncoderDescription, latent_avg: Tensor | None, where: str) -> E2Style:
        if latent_avg is None:
            raise WeightsRefused(f"{where} has no latent_avg, which its first stage's output is added to")
        w_dim, first = latent_avg.shape[1], what.parts[FIRST]
        rows = [int(first[f"{head}.3.weight"].shape[0]) for head in HEADS]
        if sum(rows) != what.n_styles * w_dim or any(size % w_dim for size in rows):
            raise WeightsRefused(
                f"{where}: its heads give {sum(rows) / w_dim:g} rows of {w_dim}, the generator takes {what.n_styles}"
            )
        cfg = E2StyleConfig(
            **what.shape(latent_avg),
            stages=1 + _further(what.parts),
            split=(rows[0] // w_dim, rows[1] // w_dim, rows[2] // w_dim),
            backbone="ir-se-50",
        )
        tensors = {f"{part}.{name}": t for part in self.parts for name, t in what.parts.get(part, {}).items()}
        unused = [name for name in tensors if re.search(r"\bbody\.(21|22|23)\.", name)]
        tensors["latent_avg"] = stored_mean(latent_avg)
        rules = keymaps.e2style(cfg.stages, FIRST, FURTHER, HEADS)
        return adopt_new(lambda: E2Style(cfg), tensors, rules, where, unused)


def _further(parts: Mapping[str, Tensors]) -> int:
    """Stages after the first."""
    found = [int(m[1]) for name in parts.get(FURTHER, {}) if (m := re.match(r"(\d{1,2})\.", name))]
    return max(found, default=-1) + 1


E2STYLE = PublishedE2Style()
