"""Open a published encoder checkpoint: what it is, and its networks, loaded and frozen. Nothing in the file runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganinv.errors import GeneratorMismatch, WeightsRefused
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import ImageEncoder, Inverter
from ganinv.methods.e4e import E4e
from ganinv.methods.hfgi import Hfgi, HfgiConfig
from ganinv.methods.hyperstyle import HyperStyle, HyperStyleConfig
from ganinv.methods.interestyle import IntereStyle, IntereStyleConfig
from ganinv.methods.psp import Psp
from ganinv.methods.published.build import build_decoder, build_encoder, build_hypernet, build_part, mean_latent
from ganinv.methods.published.describe import describe
from ganinv.methods.published.description import EncoderDescription, stored_mean
from ganinv.methods.published.kinds import kind_of
from ganinv.methods.restyle import ReStyle, ReStyleConfig
from ganinv.networks import keymaps
from ganinv.networks.fusion import ConsultationEncoder, ResidualAligner
from ganinv.networks.hypernet import HyperNetwork
from ganinv.reading.checkpoint import open_checkpoint


@dataclass(frozen=True)
class EncoderCheckpoint:
    """A published checkpoint with its networks; those that the file lacks are None.

    Args:
        what: method, options, rows of W+, the parts that are there.
        latent_avg: the mean latent [n_styles, w_dim] that the encoder's offsets are added to; zeros where the options
            say that none is used. None when the file has no mean latent and no generator to compute it from.
        latent_avg_source: where that comes from, in words.
        generator: ``decoder.*``. hypernet: ``hypernet.*``. aligner: ``grid_align.*``. consultant: ``residue.*``.
        whole: the inverter of a method of ``published.kinds``, whose networks are not taken apart here.
    """

    what: EncoderDescription
    latent_avg: Tensor | None
    latent_avg_source: str
    encoder: ImageEncoder | None
    generator: Generator | None
    hypernet: HyperNetwork | None = None
    aligner: ResidualAligner | None = None
    consultant: ConsultationEncoder | None = None
    whole: Inverter | None = None

    method = property(lambda self: self.what.method)
    opts = property(lambda self: self.what.opts)
    n_styles = property(lambda self: self.what.n_styles)
    parts = property(lambda self: tuple(self.what.parts))

    @property
    def expects(self) -> Mapping[str, str]:
        """Role of what it needs -> the published class of that role's files, where their options do not name it."""
        kind = kind_of(self.what.parts)
        return {} if kind is None else kind.expects

    def inverter(
        self,
        generator: Generator | None = None,
        *,
        needed: Mapping[str, Inverter] | None = None,
        steps: int | None = None,
    ) -> Inverter:
        """The method as one callable: images [B, 3, R, R] in [-1, 1] to a ``Code``.

        Args:
            generator: renders between the steps of ReStyle, HyperStyle and HFGI; the file's own by default.
            needed: by role what is a file of its own: HyperStyle's ``w_encoder``, HFGI's ``encoder`` where it has none.
            steps: of ReStyle and HyperStyle; as in training by default.

        Raises:
            GeneratorMismatch: the generator is not the one that the file's networks were trained with.
            WeightsRefused: a generator is needed and neither given nor in the file.
        """
        if generator is not None:
            self._check(generator)
        generator = generator or self.generator
        device = generator.device if generator is not None else torch.device("cpu")
        own = (self.encoder, self.hypernet, self.aligner, self.consultant, self.whole)
        inside = {} if self.whole is None else self.whole.needed
        for network in (*own, *inside.values(), *(needed or {}).values()):
            if network is not None:
                network.to(device)
        if self.whole is not None:
            given = {role: one for role, one in (needed or {}).items() if role in self.whole.needs}
            self.whole.needed = {**self.whole.needed, **given}
            if generator is not None:
                for each in (*inside.values(), self.whole):
                    each.bind(generator)
            return self.whole
        if self.method in ("psp", "e4e", "w", "naive-w+", "in-domain"):
            assert self.encoder is not None
            if generator is not None:
                self.encoder.bind(generator)
            return self.encoder
        if generator is None:
            raise WeightsRefused(f"this {self.method} checkpoint has no decoder.*: give the generator it belongs to")
        steps = steps or int(self.opts.get("n_iters_per_batch") or 5)
        roles = {} if needed is None else dict(needed)
        if self.hypernet is not None:
            return self._hyperstyle(self.hypernet, generator, roles, steps)
        if self.aligner is not None:
            return self._hfgi(generator, roles)
        assert isinstance(self.encoder, Psp | E4e)
        with torch.device("meta"):
            shape: dict[str, Any] = {"encoder": self.encoder.cfg, "steps": steps}
            restyle = (
                IntereStyle(IntereStyleConfig(**shape), generator)
                if self.method == "interestyle"
                else ReStyle(ReStyleConfig(**shape), generator)
            )
        restyle.encoder = self.encoder
        return restyle.eval()

    def _hyperstyle(
        self, hypernet: HyperNetwork, generator: Generator, needed: dict[str, Inverter], steps: int
    ) -> HyperStyle:
        latent_avg = self.latent_avg
        if latent_avg is None:
            encoder = needed.get("w_encoder")
            if not isinstance(encoder, ImageEncoder):
                raise WeightsRefused(
                    "this HyperStyle checkpoint has no latent_avg, which is its W encoder's then: give w_encoder"
                )
            latent_avg = encoder.latent_avg
        average = stored_mean(latent_avg if latent_avg.ndim == 2 else latent_avg[None])
        cfg = HyperStyleConfig(
            layers=hypernet.layers,
            img_channels=generator.img_channels,
            num_ws=generator.num_ws,
            w_dim=generator.w_dim,
            latent_avg_per_row=average.ndim == 2,
            steps=steps,
        )
        with torch.device("meta"):
            hyperstyle = HyperStyle(cfg, generator, needed)
        hyperstyle.hypernet = hypernet
        hyperstyle.latent_avg = average.to(generator.device)
        return hyperstyle.eval()

    def _hfgi(self, generator: Generator, needed: dict[str, Inverter]) -> Hfgi:
        assert self.aligner is not None
        assert self.consultant is not None
        if self.encoder is not None:
            needed = {"encoder": self.encoder} | needed
        height, width = self.what.input_size
        with torch.device("meta"):
            hfgi = Hfgi(HfgiConfig(input_height=height, input_width=width), generator, needed)
        hfgi.aligner, hfgi.consultant = self.aligner, self.consultant
        return hfgi.eval()

    def _check(self, generator: Generator) -> None:
        if not self.n_styles:  # networks that know no rows say themselves what they fit
            return
        encoder: Inverter | None = self.encoder if self.whole is None else self.whole
        width = getattr(encoder, "w_dim", generator.w_dim)
        kind = kind_of(self.what.parts)
        rows = min(self.n_styles, generator.num_ws) if kind is not None and kind.first_rows else self.n_styles
        if (generator.num_ws, generator.w_dim) != (rows, width):
            raise GeneratorMismatch(
                f"this {self.method} checkpoint gives latents of {self.n_styles}x{width}, "
                f"generator {generator.name!r} of resolution {generator.resolution} takes "
                f"{generator.num_ws}x{generator.w_dim}"
            )
        if self.generator is None:
            return
        theirs = dict(generator.named_parameters())
        for name, own in self.generator.named_parameters():
            if kind is not None and kind.tunes_mapping and name.startswith("mapping."):
                continue
            other = theirs.get(name)
            # Other dialects store the same weights with another rounding.
            if other is None or other.shape != own.shape or not torch.allclose(other.cpu(), own, rtol=1e-3, atol=1e-5):
                raise GeneratorMismatch(
                    f"this {self.method} checkpoint was trained with another generator than {generator.name!r}: "
                    f"{name} of its decoder differs; open_generator() opens the decoder from the checkpoint itself"
                )


def open_encoder_checkpoint(
    source: str | Mapping[str, Any],
    *,
    encoder_type: str | None = None,
    default_type: str | None = None,
    generator: Generator | None = None,
) -> EncoderCheckpoint:
    """Open a checkpoint of pSp, e4e, ReStyle, HyperStyle (or its W encoder), HFGI, PadInv, In-Domain inversion,
    E2Style, SAM, Style Transformer or StyleFeatureEditor.

    Args:
        source: path or fsspec URL, or the checkpoint's tree when it is in memory already.
        encoder_type: the published class (``GradualStyleEncoder``, ...), for files whose options do not name it, or wrongly.
        default_type: the same, where nothing else says it.
        generator: stands in for ``decoder.*`` of a file that has none: for HyperStyle's layers, for a mean latent.

    Raises:
        WeightsRefused: no encoder checkpoint, an unknown kind, missing or unexpected tensors, values not finite.
    """
    with _tree(source) as (tree, where):
        what = describe(tree, encoder_type=encoder_type, default_type=default_type, where=where)
        own = build_decoder(what, where) if "decoder" in what.parts else None
        latent_avg, latent_source = mean_latent(what, own or generator, where)
        if (kind := kind_of(what.parts)) is not None:
            whole = kind.build(what, latent_avg, where)
            return EncoderCheckpoint(what, latent_avg, latent_source, None, own, whole=whole)
        return EncoderCheckpoint(
            what=what,
            latent_avg=latent_avg,
            latent_avg_source=latent_source,
            encoder=build_encoder(what, latent_avg, where) if "encoder" in what.parts else None,
            generator=own,
            hypernet=build_hypernet(what, own or generator, where) if "hypernet" in what.parts else None,
            aligner=build_part(what, "grid_align", ResidualAligner, keymaps.RESIDUAL_ALIGNER, where),
            consultant=build_part(what, "residue", ConsultationEncoder, keymaps.CONSULTATION, where),
        )


@contextlib.contextmanager
def _tree(source: str | Mapping[str, Any]) -> Iterator[tuple[Any, str]]:
    if not isinstance(source, str):
        yield source, "the checkpoint"
        return
    with open_checkpoint(source) as checkpoint:  # tensors are read when a network takes them over
        yield checkpoint.tree, source
