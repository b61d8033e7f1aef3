"""HyperStyle (Alaluf et al. 2022): a code in W, and a hypernetwork that adapts the generator's weights to the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganinv.codes.code import Code, HeadCode
from ganinv.codes.parts import Head
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.stylegan2 import Generator
from ganinv.losses.terms import Terms
from ganinv.methods.base import ImageEncoder, Inverter, InverterConfig
from ganinv.methods.inputs import fit, pool
from ganinv.methods.learning import InverterLearner, InverterRecipe, new_inverter
from ganinv.networks.hypernet import SHARED_SHAPE, HyperNetwork, Shape, Trunk
from ganinv.networks.weight_heads import CODE_DIM
from ganinv.training.batches import Batch
from ganinv.training.learner import Learner
from ganinv.training.step import Step


class HyperStyleConfig(InverterConfig):
    """The shape of a hypernetwork: which weights it changes (layer name -> shape), and how often it is called.

    Defaults are the published form; in a recipe ``layers`` may be patterns of names: ``[convs.*, torgbs.*]``.
    """

    kind: Literal["hyperstyle"] = "hyperstyle"
    layers: Mapping[str, Shape] = Field(min_length=1)
    img_channels: int = 3
    num_ws: int = Field(ge=1)
    w_dim: int = 512
    latent_avg_per_row: bool = False
    steps: int = Field(5, ge=1)
    """Passes at inference."""
    trunk: Trunk = "resnet-34"
    resolution: int = Field(256, ge=32)
    """Of the images that the small trunk reads; the published one reads what the encoder into W does."""
    base_channels: int = Field(16, ge=8)
    """Width of the small trunk at full size."""
    pyramid_channels: int = Field(96, ge=8)
    """Width of the small trunk's map."""
    code_dim: int = Field(CODE_DIM, ge=1)
    """Numbers that stand for the offset of one layer."""
    shared_shape: Shape | None = SHARED_SHAPE
    """Layers whose weights have this shape have one head together; null gives every layer its own."""

    @classmethod
    def for_generator(cls, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """All convolutions, unless ``layers`` says which; one head for the shape that most of them have.

        Raises:
            ConfigError: a pattern that no layer has.
        """
        asked = given.get("layers", ["convs.*"])
        layers = asked if isinstance(asked, Mapping) else _shapes(generator, asked)
        alike = Counter(tuple(shape) for name, shape in layers.items() if name.startswith("convs."))
        most = alike.most_common(1)
        shape = {"shared_shape": most[0][0] if most and most[0][1] > 1 else None}
        return super().for_generator(generator, {**shape, **given, "layers": layers})


def _shapes(generator: Generator, patterns: str | Sequence[str]) -> dict[str, tuple[int, ...]]:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    names = generator.style_names
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise ConfigError(
                f"no layer of generator {generator.name!r} is called {pattern!r}; it has {', '.join(names)}"
            )
    chosen = [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]
    return {name: tuple(generator.synthesis.get_parameter(f"{name}.weight").shape) for name in chosen}


class HyperStyle(Inverter):
    """``hyperstyle(images [B, C, R, R] in [-1, 1]) -> Code`` in W with weight offsets, after ``steps`` passes.

    Each pass compares the image with the rendering so far and adds to the offsets D of the weights W (1 + D); the
    latent stays. Offsets are held as vectors for the hypernetwork's heads (``HeadCode``), exactly.

    ``needed["w_encoder"]`` gives the latent, as an offset to ``latent_avg``, which is the hypernetwork's own.
    """

    Config = HyperStyleConfig
    needs = ("w_encoder",)
    cfg: HyperStyleConfig
    latent_avg: Tensor

    def build(self) -> None:
        cfg = self.cfg
        self.num_ws, self.w_dim = cfg.num_ws, cfg.w_dim
        self.hypernet = HyperNetwork(
            cfg.layers,
            2 * cfg.img_channels,
            code_dim=cfg.code_dim,
            shared_shape=cfg.shared_shape,
            trunk=cfg.trunk,
            resolution=cfg.resolution,
            base_channels=cfg.base_channels,
            pyramid_channels=cfg.pyramid_channels,
        )
        shape = (cfg.num_ws, cfg.w_dim) if cfg.latent_avg_per_row else (cfg.w_dim,)
        self.register_buffer("latent_avg", torch.zeros(shape))

    def bind(self, generator: Generator) -> None:
        super().bind(generator)
        parameters = dict(generator.synthesis.named_parameters())
        for layer, shape in self.cfg.layers.items():
            weight = parameters.get(f"{layer}.weight")
            if weight is None or tuple(weight.shape) != tuple(shape):
                there = "has no such layer" if weight is None else f"has one of {list(weight.shape)}"
                raise GeneratorMismatch(
                    f"this hyperstyle changes {layer} of shape {list(shape)}; generator {generator.name!r} {there}: it "
                    "belongs to another one"
                )

    def begin(self) -> None:
        self.hypernet.begin_at_nothing()

    @property
    def w_encoder(self) -> ImageEncoder:
        """The encoder into W."""
        encoder = self.need("w_encoder")
        if not isinstance(encoder, ImageEncoder):
            raise ConfigError(f"HyperStyle starts from an encoder of one pass into W, got a {encoder.cfg.kind}")
        return encoder

    @property
    def seen(self) -> tuple[int, int]:
        """Height and width at which images and renderings are compared."""
        small = self.cfg.trunk == "small"
        return (self.cfg.resolution, self.cfg.resolution) if small else self.w_encoder.input_size

    def refine(
        self, images: Tensor, code: Code | None = None, *, steps: int | None = None, detach: bool = False
    ) -> Iterator[Code]:
        if code is None:
            code = Code(w=self.w_encoder.offsets(fit(images, self.w_encoder.input_size)) + self.latent_avg)
        images = fit(images, self.seen)
        heads = self.hypernet.heads
        sums: dict[str, Tensor] = {}
        for step in range(1, (steps or self.cfg.steps) + 1):
            shown = code.detach() if detach else code
            rendering = pool(self.generator.synthesize(shown), self.seen)
            rendering = rendering.detach() if detach else rendering
            scales = {}
            passes = torch.full((len(images),), float(step), device=images.device)
            for layer, found in self.hypernet(torch.cat([images, rendering], dim=1)).items():
                name = f"{layer}.weight"
                before, head = sums.get(name), heads[name]
                if before is None:
                    scales[name] = HeadCode(found, passes, head)
                elif detach:
                    before = before.detach()
                    scales[name] = HeadCode(before + found, passes, _LastPass(head, before))
                else:
                    scales[name] = HeadCode(before + found, passes, head)
                sums[name] = scales[name].code
            code = Code(w=code.w, scales=scales)
            yield code

    def weight_heads(self) -> Mapping[str, Head]:
        return self.hypernet.heads


class _LastPass:
    """The head of a sum of codes, whose gradient is that of the last pass alone: what was added before is given."""

    def __init__(self, head: Head, before: Tensor) -> None:
        self.head, self.before = head, before

    def __call__(self, code: Tensor, passes: Tensor) -> Tensor:
        with torch.no_grad():
            earlier = self.head(self.before, passes - 1)
        return earlier + self.head(code - self.before, torch.ones_like(passes))


class HyperStyleRecipe(InverterRecipe):
    """Training HyperStyle (section 3.3): each pass has its losses and its own gradient; the encoder into W stays."""

    kind: Literal["hyperstyle"] = "hyperstyle"
    needed: Mapping[str, str] = Field(default_factory=lambda: {"w_encoder": "w"})
    passes: int = Field(5, ge=1)
    """Passes in training."""

    def build(self, generator: Generator, needed: Mapping[str, nn.Module], start: nn.Module | None) -> Learner:
        return HyperStyleLearner(self, new_inverter(HyperStyle, self, generator, needed, start))


class HyperStyleLearner(InverterLearner[HyperStyle, HyperStyleRecipe]):
    """One step of HyperStyle's training: as many backward passes as there are passes."""

    def passes(self, batch: Batch, step: Step) -> Iterator[Terms]:
        for code in self.network.refine(batch.images, steps=self.recipe.passes, detach=True):
            yield self.losses(self.generator.synthesize(code), batch, code)
