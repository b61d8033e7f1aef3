"""The StyleGAN2 generator: one ``synthesize(code)`` that hosts every method.

Architecture: Karras et al. 2020 (CVPR), "config F" order of operations, at any power-of-two resolution and any channel
widths; conditional mapping and reduced precision as in StyleGAN2-ADA (Karras et al. 2020, NeurIPS).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor, nn

from ganinv.code import Code
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.discriminator import Discriminator
from ganinv.generators.layers import EqualLinear, normalize_2nd_moment
from ganinv.generators.synthesis import NoiseMode, Synthesis, _Weights


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

    ``native_fp16`` lets the ``cfg.num_fp16_res`` highest resolutions run in float16, as the file's training did. It is
    off unless set: results are then those of the weights' own dtype.
    """

    w_mean: Tensor
    w_std: Tensor

    def __init__(self, cfg: GeneratorConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.name = f"stylegan2-{cfg.resolution}"
        self.native_fp16 = False
        self.mapping = MappingNetwork(cfg)
        self.synthesis = Synthesis(cfg)
        self.register_buffer("w_mean", torch.zeros(cfg.w_dim))
        self.register_buffer("w_std", torch.zeros(()))
        self.discriminator: Discriminator | None = None
        self._fingerprint: str | None = None

    resolution = property(lambda self: self.cfg.resolution)
    num_ws = property(lambda self: self.cfg.num_ws)
    z_dim = property(lambda self: self.cfg.z_dim)
    w_dim = property(lambda self: self.cfg.w_dim)
    c_dim = property(lambda self: self.cfg.c_dim)
    img_channels = property(lambda self: self.cfg.img_channels)

    @property
    def device(self) -> torch.device:
        return self.w_mean.device

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

    def styles(self, w: Tensor) -> list[Tensor]:
        """S of w [B, num_ws, w_dim]: one [B, C] per layer in order of use (``style_names``), as the affine gives it."""
        params = _Weights(None)
        return [params.style(layer.affine, name, w[:, row]) for name, layer, row in self.synthesis.layers()]

    @property
    def style_names(self) -> list[str]:
        """Layer names in the order of ``styles``: ``convs.0, torgbs.0, convs.1, convs.2, torgbs.1, ...``."""
        return [name for name, _, _ in self.synthesis.layers()]

    @overload
    def synthesize(
        self, code: Code, noise: NoiseMode = "const", capture: None = None, rng: torch.Generator | None = None
    ) -> Tensor: ...

    @overload
    def synthesize(
        self, code: Code, noise: NoiseMode = "const", *, capture: Sequence[str], rng: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]: ...

    def synthesize(
        self,
        code: Code,
        noise: NoiseMode = "const",
        capture: Sequence[str] | None = None,
        rng: torch.Generator | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Render a code to images [B, C, R, R], about [-1, 1].

        Args:
            noise: ``const`` uses the stored noise maps, ``none`` no noise, ``random`` fresh noise (from ``rng``).
                Noise given in the code wins over all three.
            capture: sites whose features are returned as well: ``act[k]`` after convolution k, ``block[k]`` (even k)
                after the block that ends with it. Returns (images, {site: features}) when given.
        """
        if code.w.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(
                f"this generator takes w of shape [batch, {self.num_ws}, {self.w_dim}], got {tuple(code.w.shape)}"
            )
        if capture:
            known = {f"act[{k}]" for k in range(self.cfg.num_convs)}
            known |= {f"block[{k}]" for k in range(0, self.cfg.num_convs, 2)}
            if unknown := sorted(set(capture) - known):
                raise ValueError(f"unknown capture sites {unknown}; this generator has {sorted(known)}")
        image, captured = self.synthesis(code, noise, tuple(capture or ()), rng, half=self.native_fp16)
        return (image, captured) if capture is not None else image

    def render(self, code: Code, batch_size: int = 32) -> Tensor:
        """Images of a code of any length, without gradients, in batches, with the stored noise."""
        with torch.inference_mode():
            parts = [self.synthesize(code[i : i + batch_size]) for i in range(0, len(code), batch_size)]
        return torch.cat(parts).clone()

    @torch.no_grad()
    def measure_w(self, samples: int = 10_000, seed: int = 123) -> None:
        """Set ``w_mean`` and ``w_std`` from ``samples`` mapped draws of z (unconditional part of the projector's step 1)."""
        rng = torch.Generator().manual_seed(seed)
        z = torch.randn(samples, self.z_dim, generator=rng).to(self.device)
        c = torch.zeros(samples, self.c_dim, device=self.device) if self.c_dim else None
        w = self.mapping(z, c)
        self.w_mean.copy_(w.mean(0))
        self.w_std.copy_((w - self.w_mean).square().sum(1).mean().sqrt())
        self._fingerprint = None

    @property
    def fingerprint(self) -> str:
        """sha256 over all weights in canonical order: names sorted, float32 little-endian bytes, shapes included."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for name, tensor in sorted(self.state_dict().items()):
                if name.startswith(("discriminator.", "w_std")):
                    continue
                digest.update(f"{name}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint
