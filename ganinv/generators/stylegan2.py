"""The StyleGAN2 generator: one ``synthesize(code)`` that hosts every method.

Architecture: Karras et al. 2020 (CVPR), "config F" order of operations, at any power-of-two resolution and any channel
widths; conditional mapping and reduced precision as in StyleGAN2-ADA (Karras et al. 2020, NeurIPS).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.extras import check_capture, check_extras
from ganinv.generators.layers import EqualLinear, normalize_2nd_moment
from ganinv.generators.provenance import Provenance
from ganinv.generators.sampling import check_classes, class_vectors
from ganinv.generators.segment_limits import check_segments
from ganinv.generators.synthesis import NoiseMode, Precision, Synthesis, SynthesisState, style_of

Start = SynthesisState | tuple[int, Tensor, Tensor | None]


class MappingNetwork(nn.Module):
    """The mapping network f: Z -> W. Input z (and the class embedding) is normalised to unit second moment."""

    def __init__(self, cfg: GeneratorConfig) -> None:
        super().__init__()
        self.c_dim = cfg.c_dim
        self.embed = EqualLinear(cfg.c_dim, cfg.w_dim) if cfg.c_dim else None
        dims = [cfg.z_dim + (cfg.w_dim if cfg.c_dim else 0)] + [cfg.w_dim] * cfg.mapping_layers
        self.fc = nn.ModuleList(
            EqualLinear(i, o, lr_mul=cfg.mapping_lr_mul, activate=True) for i, o in itertools.pairwise(dims)
        )

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        x = normalize_2nd_moment(z)
        if self.embed is not None:
            if c is None or c.shape[1:] != (self.c_dim,):
                got = None if c is None else tuple(c.shape)
                raise ValueError(f"this generator is conditional: map() needs c of shape [B, {self.c_dim}], got {got}")
            x = torch.cat([x, normalize_2nd_moment(self.embed(c))], dim=1)
        for layer in self.fc:
            x = layer(x)
        return x


class Generator(nn.Module):
    """A StyleGAN2 generator: ``map(z) -> w``, ``styles(w) -> S``, ``synthesize(code) -> images``.

    ``w_mean`` [w_dim] and the scalar ``w_std`` are statistics of W: w_std^2 is the mean squared distance of w to w_mean,
    summed over the dimensions (the definition of the StyleGAN2 projector).

    ``precision`` says what features are computed in: ``float32``, the weights' own dtype, unless it is set.
    ``native-float16`` runs the ``cfg.num_fp16_res`` highest resolutions as the file's training did, ``bfloat16`` all above
    4 pixels. Styles, demodulation and the image keep the dtype of the weights in each.
    """

    w_mean: Tensor
    w_std: Tensor

    def __init__(self, cfg: GeneratorConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.name = f"stylegan2-{cfg.resolution}"
        self.precision: Precision = "float32"
        self.mapping = MappingNetwork(cfg)
        self.synthesis = Synthesis(cfg)
        self.register_buffer("w_mean", torch.zeros(cfg.w_dim))
        self.register_buffer("w_std", torch.zeros(()))
        self.discriminator: Discriminator | None = None
        self.provenance: Provenance | None = None
        self._fingerprint: str | None = None
        self._w_later: str | None = None
        self.register_state_dict_pre_hook(_measure_w)
        self.register_load_state_dict_pre_hook(_forget_w)

    resolution = property(lambda self: self.cfg.resolution)
    num_ws = property(lambda self: self.cfg.num_ws)
    z_dim = property(lambda self: self.cfg.z_dim)
    w_dim = property(lambda self: self.cfg.w_dim)
    c_dim = property(lambda self: self.cfg.c_dim)
    img_channels = property(lambda self: self.cfg.img_channels)

    @property
    def device(self) -> torch.device:
        return self.synthesis.const.device

    def map(
        self,
        z: Tensor,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Latents z [B, z_dim] to w [B, num_ws, w_dim].

        ``truncation_psi`` pulls the first ``truncation_cutoff`` rows (all by default) towards ``w_mean``.
        """
        w = self.mapping(z, c)[:, None].expand(-1, self.num_ws, -1)
        if truncation_psi == 1.0:
            return w
        truncated = self.w_mean.lerp(w, truncation_psi)
        if truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], w[:, truncation_cutoff:]], dim=1)

    def map_all(self, z: Tensor, truncation_psi: float = 1.0) -> Tensor:
        """``map``; of a conditional generator with its classes in turn, one after the other."""
        return self.map(z, self.classes_in_turn(len(z)), truncation_psi=truncation_psi)

    def classes_in_turn(self, count: int) -> Tensor | None:
        """Class vectors [count, c_dim] of a conditional generator, one class after the other; None for another."""
        c = class_vectors(self.c_dim, range(count))
        return None if c is None else c.to(self.w_mean)

    def class_mean(self, label: int, samples: int = 2000, seed: int = 123) -> Tensor:
        """The mean of W of one class [w_dim], of mapped draws of z; in float64 on the CPU, as ``measure_w``."""
        check_classes(self.c_dim, (label,))
        z = torch.randn(samples, self.z_dim, generator=torch.Generator().manual_seed(seed)).double()
        c = torch.eye(self.c_dim)[[label]].double().expand(samples, -1)
        with torch.no_grad():
            return copy.deepcopy(self.mapping).cpu().double()(z, c).mean(0).to(self.w_mean)

    def styles(self, w: Tensor) -> list[Tensor]:
        """S of w [B, num_ws, w_dim]: one [B, C] per layer in order of use (``style_names``), as the affine gives it."""
        return [style_of(layer, w[:, row]) for _, layer, row in self.synthesis.layers()]

    @property
    def style_names(self) -> list[str]:
        """Layer names in the order of ``styles``: ``convs.0, torgbs.0, convs.1, convs.2, torgbs.1, ...``."""
        return [name for name, _, _ in self.synthesis.layers()]

    @overload
    def synthesize(
        self,
        code: Code,
        noise: NoiseMode = ...,
        capture: None = ...,
        rng: torch.Generator | None = ...,
        *,
        start: Start | None = ...,
    ) -> Tensor: ...

    @overload
    def synthesize(
        self,
        code: Code,
        noise: NoiseMode = ...,
        *,
        capture: Sequence[str],
        rng: torch.Generator | None = ...,
        start: Start | None = ...,
    ) -> tuple[Tensor, dict[str, Tensor]]: ...

    @overload
    def synthesize(
        self,
        code: Code,
        noise: NoiseMode = ...,
        capture: None = ...,
        rng: torch.Generator | None = ...,
        *,
        start: Start | None = ...,
        stop: int,
    ) -> SynthesisState: ...

    @overload
    def synthesize(
        self,
        code: Code,
        noise: NoiseMode = ...,
        *,
        capture: Sequence[str],
        rng: torch.Generator | None = ...,
        start: Start | None = ...,
        stop: int,
    ) -> tuple[SynthesisState, dict[str, Tensor]]: ...

    def synthesize(
        self,
        code: Code,
        noise: NoiseMode = "const",
        capture: Sequence[str] | None = None,
        rng: torch.Generator | None = None,
        *,
        start: Start | None = None,
        stop: int | None = None,
    ) -> Tensor | SynthesisState | tuple[Tensor | SynthesisState, dict[str, Tensor]]:
        """Render a code to images [B, C, R, R], about [-1, 1]. A code with segments costs one pass for each of them.

        Args:
            noise: ``const`` uses the stored noise maps, ``none`` no noise, ``random`` fresh noise (from ``rng``).
                Noise given in the code wins over all three.
            capture: sites whose features are returned as well: ``act[k]`` after convolution k, ``block[k]`` (even k)
                after the block that ends with it, ``image[k]`` the sum of the toRGB outputs up to there. They are what
                the code's hooks made of them; ``act[k].before`` is what the hook was given. Returns (images,
                {site: features}) when given.
            start: continue after convolution k from features (k, x, image), or from the ``SynthesisState`` that an earlier call
                stopped in. Hooks, padding and constant at or before it have no effect.
            stop: return the ``SynthesisState`` after convolution k instead of images.

        Raises:
            ValueError: a code, an extra, a site or a start that is not for this generator; says what was expected.
        """
        if not isinstance(code, Code):
            raise ValueError(f"a generator renders a code, got {type(code).__name__}: latents w become ganinv.Code(w)")
        if code.w.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(
                f"this generator takes w of shape [batch, {self.num_ws}, {self.w_dim}], got {tuple(code.w.shape)}"
            )
        if code.segments is not None:
            check_segments(code.segments, len(code), self.cfg)
            if capture is not None or start is not None or stop is not None:
                raise ValueError(
                    "a code with segments is several images: capture, start and stop are for one of them, code.segment(k)"
                )
            parts = (self.synthesize(code.segment(k), noise, rng=rng) for k in range(len(code.segments)))
            return code.segments.composite(parts)
        if not code.plain:
            check_extras(code, self.synthesis)
        if capture:
            check_capture(capture, self.synthesis)
        if start is not None or stop is not None:
            start = self._checked_start(start, stop, len(code))
        state, captured = self.synthesis(
            code, noise, start=start, stop=stop, capture=capture or (), rng=rng, precision=self.precision
        )
        result = state.image if stop is None else state
        return (result, captured) if capture is not None else result

    def _checked_start(self, start: Start | None, stop: int | None, batch: int) -> SynthesisState | None:
        last = self.cfg.num_convs - 1
        if stop is not None and not 0 <= stop <= last:
            raise ValueError(f"stop must be a convolution of this generator, 0 to {last}, got {stop}")
        if start is None:
            return None
        state = SynthesisState(*start)
        end = last if stop is None else stop
        if not 0 <= state.k <= end:
            raise ValueError(f"start must be a convolution from 0 to {end}, where this pass stops, got {state.k}")
        b = (state.k + 1) // 2
        resolution, image_resolution = 4 * 2**b, 4 * 2 ** (state.k // 2)
        wanted = {"x": (batch, self.cfg.channels[b], resolution, resolution)}
        if self.cfg.architecture == "skip" or state.k == last:
            wanted["image"] = (batch, self.img_channels, image_resolution, image_resolution)
        if self.cfg.architecture == "resnet" and state.k % 2:
            wanted["skip"] = wanted["x"]
        for name, shape in wanted.items():
            tensor = getattr(state, name)
            got = None if tensor is None else tuple(tensor.shape)
            if got != shape:
                raise ValueError(f"start after convolution {state.k} needs {name} of shape {shape}, got {got}")
        dtype = self.synthesis.dtype_at(resolution, self.precision)
        x, image, skip = state.x, state.image, state.skip
        full = self.synthesis.const.dtype
        return SynthesisState(
            state.k, x.to(dtype), None if image is None else image.to(full), None if skip is None else skip.to(dtype)
        )

    @contextlib.contextmanager
    def computing_in(self, precision: Precision) -> Iterator[None]:
        """Another ``precision`` for a while."""
        before, self.precision = self.precision, precision
        try:
            yield
        finally:
            self.precision = before

    def render(self, code: Code, batch_size: int = 32) -> Tensor:
        """Images of a code of any length, without gradients, in batches, with the stored noise."""
        with torch.inference_mode():
            parts = [self.synthesize(code[i : i + batch_size]) for i in range(0, len(code), batch_size)]
        return torch.cat(parts).clone()

    @torch.no_grad()
    def measure_w(self, samples: int = 10_000, seed: int = 123, *, keep_mean: bool = False) -> None:
        """Set ``w_mean`` and ``w_std`` from ``samples`` mapped draws of z (unconditional part of the projector's step 1).

        In float64 on the CPU: the fingerprint covers ``w_mean``, so it must not depend on the machine.

        Args:
            keep_mean: set ``w_std`` alone.
        """
        self._w_later = None
        mapping = copy.deepcopy(self.mapping).cpu().double()
        key = (_digest(mapping), self.cfg.model_dump_json(), samples, seed, torch.get_num_threads())
        found = _MEASURED.get(key)
        if found is None:
            rng = torch.Generator().manual_seed(seed)
            z = torch.randn(samples, self.z_dim, generator=rng).double()
            c = torch.zeros(samples, self.c_dim).double() if self.c_dim else None
            w = mapping(z, c)
            mean = w.mean(0)
            if len(_MEASURED) >= 8:
                _MEASURED.clear()
            found = _MEASURED[key] = mean, (w - mean).square().sum(1).mean().sqrt()
        mean, std = found
        self.w_std.copy_(std)
        if not keep_mean:
            self.w_mean.copy_(mean)
            self._fingerprint = None

    def measure_w_later(self, *, keep_mean: bool) -> None:
        """``measure_w()`` when ``w_std`` (or ``w_mean``, or the state dict) is asked for: at 1024 it takes seconds."""
        self._w_later = "std" if keep_mean else "both"

    def __getattr__(self, name: str) -> Any:
        later = self.__dict__.get("_w_later")
        if later is not None and (name == "w_std" or (name == "w_mean" and later == "both")):
            self.measure_w(keep_mean=later == "std")
        return super().__getattr__(name)

    @property
    def fingerprint(self) -> str:
        """sha256 over all weights in canonical order: names sorted, float32 little-endian bytes, shapes included."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            later = self._w_later
            if later == "std":  # a state dict would measure it, and the fingerprint is without it
                self._w_later = None
            state = self.state_dict()
            if later == "std":
                self._w_later = later
            for name, tensor in sorted(state.items()):
                if name.startswith(("discriminator.", "w_std")):
                    continue
                digest.update(f"{name}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().float().reshape(-1).numpy())  # flat: hashed without a copy
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


_MEASURED: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}
"""Mean and deviation of W that ``measure_w`` found last: the parts of a run open the same file one after the other."""


def _digest(module: nn.Module) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).numpy())
    return digest.digest()


def _measure_w(module: nn.Module, *_: Any) -> None:
    """A state dict has the statistics of W in it, so they are needed now."""
    assert module.w_std is not None


def _forget_w(module: nn.Module, *_: Any) -> None:
    """Statistics that are loaded need not be measured."""
    module.__dict__["_w_later"] = None
