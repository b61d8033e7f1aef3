"""Style Transformer (Hu et al. 2022, "Style Transformer for Image Inversion and Editing", section 3.2): one token for each row of
W+, which looks at the other tokens and at the image's features, from coarse to fine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ganinv.generators.config import GeneratorConfig
from ganinv.generators.stylegan2 import Generator, MappingNetwork
from ganinv.methods.base import ImageEncoder, InverterConfig
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.networks.blocks import PyramidBackbone
from ganinv.networks.irse import IRSE50
from ganinv.networks.pyramid import FeaturePyramid
from ganinv.networks.transformer import DecoderLayer
from ganinv.training.learner import Learner

WIDTH = 512  # of the maps of IR-SE-50's pyramid


class StyleTransformerConfig(InverterConfig):
    """The shape of a Style Transformer: on a small backbone, or in the published form on IR-SE-50."""

    kind: Literal["style-transformer"] = "style-transformer"
    resolution: int
    num_ws: int = Field(ge=1)
    w_dim: int
    img_channels: int = 3
    tokens: int = Field(ge=1)
    """At least ``num_ws``: the first so many become its rows, all of them look at one another (published files have 18 for
    smaller generators too)."""
    z_dim: int
    mapping_layers: int = Field(ge=1)
    mapping_lr_mul: float = 0.01
    heads: int = Field(4, ge=1)
    hidden: int = Field(1024, ge=1)
    """Width of the two-layer networks of the transformer."""
    dropout: float = Field(0.1, ge=0, lt=1)
    output_layer: bool = True
    """A linear layer after the transformer, whose last norm fixes the length of what it gives; published files have none."""
    backbone: Literal["small", "ir-se-50"] = "small"
    base_channels: int = Field(16, ge=8)
    """Width of the small backbone at full size; its maps have ``w_dim`` channels."""
    input_height: int | None = None
    latent_avg_per_row: bool = False

    @model_validator(mode="after")
    def _check(self) -> StyleTransformerConfig:
        if self.tokens < self.num_ws:
            raise ValueError(f"{self.tokens} tokens cannot give {self.num_ws} rows: set tokens to at least that")
        if self.w_dim % self.heads:
            raise ValueError(f"heads must divide w_dim {self.w_dim}, got {self.heads}")
        if self.backbone != "small" and self.w_dim != WIDTH:
            raise ValueError(
                f"backbone {self.backbone!r} has maps of {WIDTH}, it cannot give w_dim {self.w_dim}: it is for generators "
                f"whose W has {WIDTH} dimensions, so name one with --generator"
            )
        return self

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        mapping = {name: getattr(generator.cfg, name) for name in ("z_dim", "mapping_layers", "mapping_lr_mul")}
        return super().for_generator(generator, {**mapping, "tokens": generator.num_ws, **given})


class StyleTransformer(ImageEncoder):
    """``encoder(images [B, 3, R, R] in [-1, 1]) -> Code``.

    Tokens begin as learned z, brought to W by a mapping network that is this encoder's own: it starts as the generator's and
    learns with the rest, so it is no longer one to sample with.
    """

    Config = StyleTransformerConfig
    cfg: StyleTransformerConfig

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.input_size = (cfg.input_height or cfg.resolution, cfg.resolution)
        self.backbone: nn.Module
        if cfg.backbone == "small":
            self.backbone = PyramidBackbone(cfg.resolution, cfg.img_channels, cfg.base_channels, cfg.w_dim)
        else:
            self.backbone = FeaturePyramid(IRSE50(cfg.img_channels))
        self.z = nn.Parameter(torch.randn(1, cfg.tokens, cfg.z_dim))
        self.mapping = MappingNetwork(
            GeneratorConfig(
                resolution=4,
                channels=(1,),
                z_dim=cfg.z_dim,
                w_dim=cfg.w_dim,
                mapping_layers=cfg.mapping_layers,
                mapping_lr_mul=cfg.mapping_lr_mul,
            )
        )
        self.layers = nn.ModuleList(DecoderLayer(cfg.w_dim, cfg.heads, cfg.hidden, cfg.dropout) for _ in range(3))
        self.output: nn.Module = nn.Identity()
        if cfg.output_layer:
            self.output = nn.Linear(cfg.w_dim, cfg.w_dim)
            nn.init.zeros_(self.output.weight)  # type: ignore[arg-type]  # training starts from the mean latent
            nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        self.register_buffer(
            "latent_avg", torch.zeros((cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else cfg.w_dim)
        )

    def queries(self) -> Tensor:
        """What the tokens are before they have seen an image: [tokens, w_dim]."""
        return self.mapping(self.z[0])

    def offsets(self, images: Tensor) -> Tensor:
        tokens = self.queries().expand(len(images), -1, -1)
        for layer, features in zip(self.layers, self.backbone(images), strict=True):
            tokens = layer(tokens, features.flatten(2).transpose(1, 2))
        return self.output(tokens[:, : self.num_ws])


class StyleTransformerRecipe(InverterRecipe):
    """Training a Style Transformer (section 3.4): the shared losses on one rendering."""

    kind: Literal["style-transformer"] = "style-transformer"

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        encoder = new_inverter(StyleTransformer, self, generator, needed, start)
        if start is None and generator.c_dim == 0:
            encoder.mapping.load_state_dict(generator.mapping.state_dict())
        return InverterLearner(self, encoder)
