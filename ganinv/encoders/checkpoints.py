"""Open a published encoder checkpoint: what it is, and its networks, loaded and frozen. Nothing in the file runs."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ganinv.encoders.base import ImageEncoder
from ganinv.encoders.e4e import E4e
from ganinv.encoders.hfgi import Hfgi
from ganinv.encoders.hyperstyle import HyperStyle
from ganinv.encoders.in_domain import InDomainConfig, InDomainEncoder
from ganinv.encoders.psp import Psp
from ganinv.encoders.published import ENCODER_TYPES, EncoderDescription, Tensors, describe
from ganinv.encoders.restyle import ReStyle
from ganinv.encoders.rows import RowEncoder, RowEncoderConfig
from ganinv.encoders.w import NaiveWPlusEncoder, WEncoder, WEncoderConfig
from ganinv.errors import GeneratorMismatch, WeightsRefused
from ganinv.generators.formats import rosinality
from ganinv.generators.formats.build import build_generator
from ganinv.generators.formats.parts import State
from ganinv.generators.stylegan2 import Generator
from ganinv.networks import keymaps
from ganinv.networks.adopt import adopt, finite, loaded
from ganinv.networks.fusion import ConsultationEncoder, ResidualAligner
from ganinv.networks.hypernet import HyperNetwork, Shape
from ganinv.reading.checkpoint import open_checkpoint

M = TypeVar("M", bound=nn.Module)
Inverter = ImageEncoder | ReStyle | HyperStyle | Hfgi
"""Each is called on images [B, 3, R, R] in [-1, 1] and gives a ``Code``."""


@dataclass(frozen=True)
class EncoderCheckpoint:
    """A published checkpoint with its networks; those that the file lacks are None.

    Args:
        what: method, options, rows of W+, the parts that are there.
        latent_avg: the mean latent [n_styles, w_dim] that the encoder's offsets are added to; zeros where the options
            say that none is used. None when the file has no mean latent and no generator to compute it from.
        latent_avg_source: where that comes from, in words.
        generator: ``decoder.*``. hypernet: ``hypernet.*``. aligner: ``grid_align.*``. consultant: ``residue.*``.
    """

    what: EncoderDescription
    latent_avg: Tensor | None
    latent_avg_source: str
    encoder: ImageEncoder | None
    generator: Generator | None
    hypernet: HyperNetwork | None = None
    aligner: ResidualAligner | None = None
    consultant: ConsultationEncoder | None = None

    method = property(lambda self: self.what.method)
    opts = property(lambda self: self.what.opts)
    n_styles = property(lambda self: self.what.n_styles)
    parts = property(lambda self: tuple(self.what.parts))

    def inverter(
        self,
        generator: Generator | None = None,
        *,
        w_encoder: ImageEncoder | None = None,
        steps: int | None = None,
    ) -> Inverter:
        """The method as one callable: images [B, 3, R, R] in [-1, 1] to a ``Code``.

        Args:
            generator: renders between the steps of ReStyle, HyperStyle and HFGI; the file's own by default.
            w_encoder: HyperStyle's encoder into W, which is a file of its own.
            steps: of ReStyle and HyperStyle; as in training by default.

        Raises:
            GeneratorMismatch: the generator is not the one that the file's networks were trained with.
            WeightsRefused: a generator or an encoder into W is needed and neither given nor in the file.
        """
        if generator is not None:
            self._check(generator)
        generator = generator or self.generator
        device = generator.device if generator is not None else torch.device("cpu")
        for network in (self.encoder, self.hypernet, self.aligner, self.consultant, w_encoder):
            if network is not None:
                network.to(device)
        if self.method in ("psp", "e4e", "w", "naive-w+", "in-domain"):
            assert self.encoder is not None
            return self.encoder
        if generator is None:
            raise WeightsRefused(f"this {self.method} checkpoint has no decoder.*: give the generator it belongs to")
        steps = steps or int(self.opts.get("n_iters_per_batch") or 5)
        if self.hypernet is not None:
            if w_encoder is None:
                raise WeightsRefused(
                    "HyperStyle starts from an encoder into W, which is a file of its own: give w_encoder"
                )
            latent_avg = None if self.latent_avg is None else self.latent_avg.to(device)
            return HyperStyle(w_encoder, self.hypernet, generator, latent_avg=latent_avg, steps=steps)
        if self.aligner is not None:
            assert self.consultant is not None
            return Hfgi(self.encoder, self.aligner, self.consultant, generator, self.what.input_size)
        assert isinstance(self.encoder, RowEncoder)
        return ReStyle(self.encoder, generator, steps)

    def _check(self, generator: Generator) -> None:
        width = generator.w_dim if self.encoder is None else self.encoder.w_dim
        if (generator.num_ws, generator.w_dim) != (self.n_styles, width):
            raise GeneratorMismatch(
                f"this {self.method} checkpoint gives latents of {self.n_styles}x{width}, "
                f"generator {generator.name!r} of resolution {generator.resolution} takes "
                f"{generator.num_ws}x{generator.w_dim}"
            )
        if self.generator is None:
            return
        theirs = dict(generator.named_parameters())
        for name, own in self.generator.named_parameters():
            other = theirs.get(name)
            # Other dialects store the same weights with another rounding.
            if other is None or other.shape != own.shape or not torch.allclose(other.cpu(), own, rtol=1e-3, atol=1e-5):
                raise GeneratorMismatch(
                    f"this {self.method} checkpoint was trained with another generator than {generator.name!r}: "
                    f"{name} of its decoder differs; open_generator() opens the decoder from the checkpoint itself"
                )


def open_encoder_checkpoint(
    source: str | Mapping[str, Any], *, encoder_type: str | None = None, generator: Generator | None = None
) -> EncoderCheckpoint:
    """Open a checkpoint of pSp, e4e, ReStyle, HyperStyle (or its W encoder), HFGI or In-Domain inversion.

    Args:
        source: path or fsspec URL, or the checkpoint's tree when it is in memory already.
        encoder_type: the published class (``GradualStyleEncoder``, ...), for files whose options do not name it.
        generator: stands in for ``decoder.*`` of a HyperStyle file that has none.

    Raises:
        WeightsRefused: no encoder checkpoint, an unknown kind, missing or unexpected tensors, values not finite.
    """
    with _tree(source) as (tree, where):
        what = describe(tree, encoder_type=encoder_type, where=where)
        own = _generator(what, where) if "decoder" in what.parts else None
        latent_avg, latent_source = _latent_avg(what, own, where)
        return EncoderCheckpoint(
            what=what,
            latent_avg=latent_avg,
            latent_avg_source=latent_source,
            encoder=_encoder(what, latent_avg, where) if "encoder" in what.parts else None,
            generator=own,
            hypernet=_hypernet(what, own or generator, where) if "hypernet" in what.parts else None,
            aligner=_part(what, "grid_align", ResidualAligner, keymaps.RESIDUAL_ALIGNER, where),
            consultant=_part(what, "residue", ConsultationEncoder, keymaps.CONSULTATION, where),
        )


@contextlib.contextmanager
def _tree(source: str | Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    if not isinstance(source, str):
        yield source, "the checkpoint"
        return
    with open_checkpoint(source) as checkpoint:  # tensors are read when a network takes them over
        yield checkpoint.tree, source


def _latent_avg(what: EncoderDescription, generator: Generator | None, where: str) -> tuple[Tensor | None, str]:
    if what.method == "in-domain":
        return None, "none is used"
    if what.latent_avg is not None:
        given = finite(loaded(what.latent_avg), f"{where}: latent_avg")
        return _rows(given, what.n_styles, where), "the file"
    if what.method in ("psp", "e4e", "w", "naive-w+") and what.opts.get("start_from_latent_avg") is False:
        return torch.zeros(what.n_styles, 512), "none is used (start_from_latent_avg is false)"
    if "encoder" not in what.parts:
        return None, "the file has none"
    if generator is None:
        raise WeightsRefused(
            f"{where} has no latent_avg, which its encoder's output is added to, and no decoder.* to compute it from"
        )
    return generator.w_mean.expand(what.n_styles, -1), "the mean of 10000 mapped draws, seed 123"


def _rows(latent_avg: Tensor, n_styles: int, where: str) -> Tensor:
    """[w_dim], [1, w_dim] or [m, w_dim] with m of at least n_styles to [n_styles, w_dim]."""
    rows = latent_avg[None] if latent_avg.ndim == 1 else latent_avg
    if rows.ndim == 2 and len(rows) == 1:
        return rows.expand(n_styles, -1)
    if rows.ndim == 2 and len(rows) >= n_styles:
        return rows[:n_styles]
    raise WeightsRefused(
        f"{where}: latent_avg has shape {tuple(latent_avg.shape)}, expected [w_dim], [1, w_dim] or [{n_styles}, w_dim]"
    )


def _encoder(what: EncoderDescription, latent_avg: Tensor | None, where: str) -> ImageEncoder:
    tensors, where = what.parts["encoder"], f"{where}: encoder"
    if what.method == "in-domain":
        return _in_domain(what, tensors, where)
    assert what.encoder_type is not None
    assert latent_avg is not None
    kind = ENCODER_TYPES[what.encoder_type]
    common: dict[str, Any] = {
        "num_ws": what.n_styles,
        "w_dim": latent_avg.shape[1],
        "resolution": what.input_size[1],
        "input_height": what.input_size[0] if what.input_size[0] != what.input_size[1] else None,
        "img_channels": what.input_channels // (2 if what.sees_rendering else 1),
        "latent_avg_per_row": bool((latent_avg != latent_avg[0]).any()),
    }
    tensors = {**tensors, "latent_avg": latent_avg if common["latent_avg_per_row"] else latent_avg[0]}
    if kind.family in ("w", "naive-w+"):
        single = kind.family == "w"
        build: Callable[[WEncoderConfig], ImageEncoder] = WEncoder if single else NaiveWPlusEncoder
        with torch.device("meta"):
            network = build(WEncoderConfig(**common))
        return adopt(network, tensors, keymaps.W_ENCODER if single else keymaps.NAIVE_W_PLUS, where)
    cfg = RowEncoderConfig(**common, backbone=kind.backbone, pyramid=kind.pyramid, sees_rendering=what.sees_rendering)
    with torch.device("meta"):
        rows = Psp(cfg) if kind.family == "psp" else E4e(cfg)
    rules = keymaps.IR_SE_50_ROWS if kind.backbone == "ir-se-50" else keymaps.RESNET_34_ROWS
    return adopt(rows, tensors, rules, where)


def _in_domain(what: EncoderDescription, tensors: Tensors, where: str) -> ImageEncoder:
    levels = what.n_styles // 2
    rows, features = tensors[f"block{levels}.fc.weight"].shape
    cfg = InDomainConfig(
        resolution=what.input_size[0],
        w_dim=rows // what.n_styles,
        img_channels=what.input_channels,
        base_channels=tensors["block0.conv.weight"].shape[0],
        max_channels=features // 16,
        batch_norm="block0.bn.bn.weight" in tensors,
    )
    with torch.device("meta"):
        network = InDomainEncoder(cfg)
    return adopt(network, {**tensors, "latent_avg": torch.zeros(cfg.w_dim)}, keymaps.in_domain(levels), where)


def _hypernet(what: EncoderDescription, generator: Generator | None, where: str) -> HyperNetwork:
    tensors, where = what.parts["hypernet"], f"{where}: hypernet"
    if generator is None:
        raise WeightsRefused(
            f"{where}: there is no decoder.* whose weights it changes; give the generator it belongs to"
        )
    if any(re.match(r"refinement_blocks\.\d+\.output\.0\.", name) for name in tensors):
        raise WeightsRefused(f"{where} changes toRGB layers as well, which is not known here; only convolutions are")
    names = generator.style_names
    indices = sorted({int(m[1]) for name in tensors if (m := re.match(r"refinement_blocks\.(\d+)\.", name))})
    if indices and indices[-1] >= len(names):
        raise WeightsRefused(f"{where} changes layer {indices[-1]}, its generator has the layers 0 to {len(names) - 1}")
    layers = {names[i]: _shape(generator, names[i]) for i in indices}
    # Every block that uses the shared head lists it again under its own name.
    aliases = [name for name in tensors if re.match(r"refinement_blocks\.\d+\.hypernet\.", name)]
    with torch.device("meta"):
        network = HyperNetwork(layers, what.input_channels)
    return adopt(network, tensors, keymaps.hyper_network(dict(zip(layers, indices, strict=True))), where, aliases)


def _shape(generator: Generator, layer: str) -> Shape:
    out_ch, in_ch, height, width = generator.synthesis.get_parameter(f"{layer}.weight").shape
    return out_ch, in_ch, height, width


def _part(what: EncoderDescription, part: str, build: Callable[[], M], rules: keymaps.Rules, where: str) -> M | None:
    if part not in what.parts:
        return None
    with torch.device("meta"):
        network = build()
    return adopt(network, what.parts[part], rules, f"{where}: {part}")


def _generator(what: EncoderDescription, where: str) -> Generator:
    tensors = what.parts["decoder"]
    size = sum(tensor.dtype.itemsize * math.prod(tensor.shape) for tensor in tensors.values())
    try:
        description = rosinality.describe_generator(State(tensors), what.latent_avg)
        generator = build_generator(description, size)
    except WeightsRefused as error:
        raise WeightsRefused(f"{where}: decoder: {error}") from error
    generator.measure_w_later(keep_mean="w_mean" in description.parts)
    return generator.eval().requires_grad_(False)
