"""StyleFeatureEditor's files (Bobkov et al. 2024): ``encoder.*`` is the inverter after the first phase of its training; after the
second it is the editor of features, beside ``inverter.*`` and perhaps the encoder that both start from, ``e4e_encoder.*``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.methods.base import Inverter
from ganinv.methods.e4e import E4e, E4eConfig
from ganinv.methods.published.description import SIZE, EncoderDescription, Tensors, stored_mean
from ganinv.methods.published.kinds import PublishedKind
from ganinv.methods.sfe import Sfe, SfeConfig
from ganinv.methods.sfe_editor import SfeEditor, SfeEditorConfig
from ganinv.networks import keymaps
from ganinv.networks.adopt import Lazy, adopt_new

SITE: dict[str, Any] = {"site": "block[8]", "side": 64, "channels": 512, "width": 512, "units": 5}
MARK = "fs_backbone.conv.0.weight"


class PublishedSfe(PublishedKind):
    """Its networks have one shape, whatever the generator: 18 rows, of which a smaller one reads the first."""

    parts = ("encoder", "inverter", "e4e_encoder")
    first_rows = True
    ignored = ("discriminator",)
    expects: ClassVar[Mapping[str, str]] = {"encoder": "Encoder4Editing"}

    def holds(self, parts: Mapping[str, Tensors]) -> bool:
        return any(MARK in parts.get(part, {}) for part in ("encoder", "inverter"))

    def describe(
        self, parts: dict[str, Tensors], opts: dict[str, Any], latent_avg: Lazy | None, where: str
    ) -> EncoderDescription:
        if "encoder" not in parts:
            raise WeightsRefused(f"{where} is a StyleFeatureEditor checkpoint without its editor, encoder.*")
        inverter = parts.get("inverter", parts["encoder"])
        return EncoderDescription(
            method="sfe-editor" if "inverter" in parts else "sfe",
            encoder_type=None,
            opts=opts,
            n_styles=_rows(inverter, "fs_backbone.", where),
            input_size=(SIZE, SIZE),
            input_channels=int(inverter[MARK].shape[1]),
            latent_avg=latent_avg,
            parts=parts,
        )

    def build(self, what: EncoderDescription, latent_avg: Tensor | None, where: str) -> Inverter:
        assert latent_avg is not None  # no option leaves it out
        part = "inverter" if what.method == "sfe-editor" else "encoder"
        shape = what.shape(latent_avg)
        del shape["input_height"]  # it reads squares only
        cfg = SfeConfig(**SITE, **shape, backbone="iresnet-50")
        given = {**what.parts[part], "latent_avg": stored_mean(latent_avg), **_plain_units()}
        inverter = adopt_new(lambda: Sfe(cfg), given, keymaps.FEATURE_INVERTER, f"{where}: {part}")
        if part == "encoder":
            return inverter
        editor = adopt_new(
            lambda: SfeEditor(SfeEditorConfig(**SITE, network="published", always=True)),
            {**what.parts["encoder"], **_plain_units()},
            keymaps.FEATURE_EDITOR,
            f"{where}: encoder",
        )
        editor.needed = {"inverter": inverter}
        if "e4e_encoder" in what.parts:
            editor.needed["encoder"] = _helper(what, latent_avg, where)
        return editor


def _plain_units() -> dict[str, Tensor]:
    """The published networks read features as they are."""
    return {"feature_mean": torch.zeros(SITE["channels"]), "feature_std": torch.ones(SITE["channels"])}


def _helper(what: EncoderDescription, latent_avg: Tensor, where: str) -> E4e:
    """The e4e beside the other networks; its offsets are added to the same mean latent."""
    tensors = what.parts["e4e_encoder"]
    rows = _rows(tensors, "", f"{where}: e4e_encoder")
    average = latent_avg[:rows]
    cfg = E4eConfig(**what.shape(average) | {"num_ws": rows}, backbone="ir-se-50")
    given = {**tensors, "latent_avg": stored_mean(average)}
    return adopt_new(lambda: E4e(cfg), given, keymaps.IR_SE_50_ROWS, f"{where}: e4e_encoder")


def _rows(tensors: Tensors, prefix: str, where: str) -> int:
    rows = [int(m[1]) for name in tensors if (m := re.match(rf"{re.escape(prefix)}styles\.(\d{{1,2}})\.", name))]
    if not rows:
        raise WeightsRefused(f"{where} has no {prefix}styles.*, the heads that give the rows of W+")
    return max(rows) + 1


SFE = PublishedSfe()
