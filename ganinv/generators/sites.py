"""Places in a synthesis where features are changed, by number (``act[6]``) or by meaning (a share of the output's side).

A site named by meaning is the same place in generators of 64 and of 1024 pixels, so that one file fits both.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import StrictModel
from ganinv.errors import ConfigError
from ganinv.generators.stylegan2 import Generator

_BY_NUMBER = re.compile(r"(act|block)\[(\d{1,3})\]")


class SiteByMeaning(StrictModel):
    """``{resolution: 1/4, kind: block}``: the features whose side is a quarter of the output's."""

    resolution: str
    """A share of the output's side, ``1/4`` or ``0.25``, or that side in pixels, ``16``; ``1`` and ``1/1`` are the full side."""
    kind: Literal["block", "act", "up"] = "block"
    """``block``: what goes on to the next resolution, after toRGB took its copy. ``act``: after the activation of the last
    convolution, which toRGB sees as well. ``up``: after that of the up-sampling convolution."""

    @field_validator("resolution", mode="before")
    @classmethod
    def _written(cls, value: object) -> str:
        text = str(value)
        try:
            share = Fraction(text)
        except (ValueError, ZeroDivisionError):
            raise ValueError(
                f"expected a share of the output's side such as 1/4, or pixels such as 16; got {value!r}"
            ) from None
        if share <= 0 or (share > 1 and share.denominator != 1):
            raise ValueError(f"expected a share in (0, 1], or whole pixels; got {value!r}")
        return str(share)

    def side(self, resolution: int) -> Fraction:
        """Height and width of the features in a generator of this resolution."""
        share = Fraction(self.resolution)
        return share * resolution if share <= 1 else share


Site = Annotated[str | SiteByMeaning, Field(union_mode="left_to_right")]
"""``act[k]`` or ``block[k]``, as in ``Code.features``, or the same by meaning (:class:`SiteByMeaning`)."""


class SiteShape(NamedTuple):
    """Features at one site: [B, channels, side, side]."""

    channels: int
    side: int


def find_site(site: str | SiteByMeaning, generator: Generator) -> str:
    """The name of a site in this generator: ``act[k]`` or ``block[k]``.

    Raises:
        ConfigError: this generator has no such site; the message lists those that it has.
    """
    last = generator.cfg.num_convs - 1
    if isinstance(site, str):
        match = _BY_NUMBER.fullmatch(site)
        if match is not None and int(match[2]) <= last and not (match[1] == "block" and int(match[2]) % 2):
            return site
        raise ConfigError(_absent(generator, repr(site)))
    side = site.side(generator.resolution)
    sides = [4 * 2**b for b in range(len(generator.cfg.channels))]
    asked = f"resolution {site.resolution}, kind {site.kind}"
    if side not in sides:
        raise ConfigError(_absent(generator, f"{asked} (that would be {side} pixels)"))
    b = sides.index(int(side))
    if site.kind == "up":
        if b == 0:
            raise ConfigError(_absent(generator, f"{asked} (nothing is up-sampled to 4 pixels)"))
        return f"act[{2 * b - 1}]"
    return f"{site.kind}[{2 * b}]"


def site_number(site: str) -> int:
    """k of ``act[k]`` and ``block[k]``: the convolution that the site follows."""
    match = _BY_NUMBER.fullmatch(site)
    if match is None:
        raise ConfigError(f"expected a site act[k] or block[k], got {site!r}")
    return int(match[2])


def site_shape(site: str, generator: Generator) -> SiteShape:
    """Channels and side of the features at ``act[k]`` or ``block[k]``."""
    b = (site_number(site) + 1) // 2
    return SiteShape(generator.cfg.channels[b], 4 * 2**b)


@torch.no_grad()
def site_statistics(site: str, generator: Generator, samples: int = 64, seed: int = 123) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [channels] of the features at a site, over positions and samples of the generator.

    The deviation is around the mean *at each position*, so it says how much features differ from image to image: the unit
    of steps, penalties and shifts there, whatever the generator's scale. Of untruncated draws, the same on every call.
    """
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(samples, generator.z_dim, generator=rng).to(generator.device, generator.w_mean.dtype)
    seen = []
    for some in z.split(16):
        _, captured = generator.synthesize(Code(w=generator.map_all(some)), capture=[site], stop=site_number(site))
        seen.append(captured[site].float())
    features = torch.cat(seen)
    around = features - features.mean(0, keepdim=True)
    return features.mean(dim=(0, 2, 3)), around.square().mean(dim=(0, 2, 3)).sqrt()


def site_deviation(site: str, generator: Generator) -> float:
    """The root mean square, over the channels, of :func:`site_statistics`' deviation: one number for the site. Measured once for
    each generator."""
    key = (site, generator.fingerprint)
    if key not in _DEVIATIONS:
        _DEVIATIONS[key] = float(site_statistics(site, generator)[1].square().mean().sqrt())
    return _DEVIATIONS[key]


_DEVIATIONS: dict[tuple[str, str], float] = {}


def _absent(generator: Generator, asked: str) -> str:
    last = generator.cfg.num_convs - 1
    shares = ", ".join(f"1/{2**b}" if b else "1" for b in range(len(generator.cfg.channels)))
    return (
        f"generator {generator.name!r} of {generator.resolution} pixels has no features at {asked}; it has act[0] to "
        f"act[{last}] and block[k] for even k up to {last}, or by meaning {{resolution: SHARE, kind: block}} with SHARE one of "
        f"{shares}: copy the method's YAML file and name one of these"
    )
