"""Style Transformer's files: ``encoder.*`` with ``z`` and ``transformerlayer_*``, and ``decoder.*`` with the mapping network that
learned with it (Hu et al. 2022). Both may have the prefix ``module.``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.methods.published.description import EncoderDescription, Tensors, described, stored_mean
from ganinv.methods.published.kinds import PublishedKind
from ganinv.methods.style_transformer import StyleTransformer, StyleTransformerConfig
from ganinv.networks import keymaps
from ganinv.networks.adopt import Lazy, adopt_new, loaded

MARK = "transformerlayer_coarse.linear1.weight"


class PublishedStyleTransformer(PublishedKind):
    """The rows of ``z`` are its tokens: 18 in every published file, of which a smaller generator takes the first."""

    parts = ("encoder",)
    mark = MARK
    tunes_mapping = True
    needs_mean = False

    def describe(
        self, parts: dict[str, Tensors], opts: dict[str, Any], latent_avg: Lazy | None, where: str
    ) -> EncoderDescription:
        stem, z = (parts["encoder"].get(name) for name in ("input_layer.0.weight", "z"))
        if stem is None or z is None or len(z.shape) != 3:
            raise WeightsRefused(
                f"{where} is not a Style Transformer as published: expected encoder.input_layer.0.weight, and encoder.z of "
                "[1, tokens, z_dim]"
            )
        channels = int(stem.shape[1])
        return described("style-transformer", "StyleTransformer", channels, parts, opts, latent_avg, where)

    def build(self, what: EncoderDescription, latent_avg: Tensor | None, where: str) -> StyleTransformer:
        encoder = what.parts["encoder"]
        mapping = {n: t for n, t in what.parts.get("decoder", {}).items() if n.startswith("style.")}
        if not mapping:
            raise WeightsRefused(
                f"{where} has no decoder.style.*: the mapping network learned with the encoder, and brings its tokens to W"
            )
        if latent_avg is None:
            raise WeightsRefused(f"{where} has no latent_avg, which its output is added to")
        cfg = StyleTransformerConfig(
            **what.shape(latent_avg),
            tokens=int(encoder["z"].shape[1]),
            z_dim=int(encoder["z"].shape[2]),
            mapping_layers=sum(name.endswith(".weight") for name in mapping),
            hidden=int(encoder[MARK].shape[0]),
            output_layer=False,
            backbone="ir-se-50",
        )
        tensors = {**split_projections(encoder), **{f"decoder.{name}": t for name, t in mapping.items()}}
        tensors["latent_avg"] = stored_mean(latent_avg)
        rules = keymaps.style_transformer(cfg.mapping_layers)
        return adopt_new(lambda: StyleTransformer(cfg), tensors, rules, f"{where}: encoder")


def split_projections(tensors: Mapping[str, Lazy]) -> Tensors:
    """Stacked projections of attention, ``in_proj_weight`` [3d, d], as those of queries, keys and values."""
    out: Tensors = {}
    for name, tensor in tensors.items():
        prefix, found, kind = name.partition("in_proj_")
        if not found or not len(tensor.shape) or tensor.shape[0] % 3:
            out[name] = tensor
            continue
        for part, one in zip("qkv", loaded(tensor).chunk(3), strict=True):
            out[f"{prefix}{part}.{kind}"] = one
    return out


STYLE_TRANSFORMER = PublishedStyleTransformer()
