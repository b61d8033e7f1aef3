"""Codes of one generator rendered by another that was fine-tuned from it: HyperStyle's domain adaptation (Alaluf et al. 2022,
section 4.4).

A hypernetwork compares the photo with renderings of the generator that it was trained on, always: the target only renders the
end. Its offsets fit because the target's weights are the source's, moved a little.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, GeneratorMismatch
from ganinv.generators.stylegan2 import Generator

DETAILS = Fraction(1, 8)
"""128 pixels of 1024: from there on the published adaptation keeps offsets. Earlier ones would undo the new domain's shapes."""


def adapt(code: Code, target: Generator, *, start: str | Fraction = DETAILS, latent: Code | None = None) -> Code:
    """A code of the source generator, as ``target`` renders it: offsets of weights from some resolution on, the rest as it is.

    The offsets themselves do not depend on the target, so one inversion serves any number of them.

    Args:
        code: by HyperStyle (``Code.scales``, with its heads: ``Code.with_heads``), or tuned (``Code.weights``).
        start: the first resolution whose convolutions keep their offsets, as a share of the output's side. 0 keeps all.
        latent: another code of the same images whose w is taken instead. The published adaptation takes ReStyle's in W+, which
            carries more of a person into the other domain than a latent in W.

    Raises:
        ConfigError: a code without offsets, a share outside 0..1, or another number of latents.
        GeneratorMismatch: a target of other layers.
    """
    share = Fraction(start)
    if not 0 <= share <= 1:
        raise ConfigError(f"start is a share of the output's side between 0 and 1, got {start}")
    if not code.scales and not code.weights:
        raise ConfigError(
            "these codes have no weight offsets: domain adaptation is for inversions by hyperstyle, or tuned ones"
        )
    if code.w.shape[1:] != (target.num_ws, target.w_dim):
        raise GeneratorMismatch(
            f"codes of {code.w.shape[1]}x{code.w.shape[2]} do not fit generator {target.name!r}, which takes "
            f"{target.num_ws}x{target.w_dim}: the target must be fine-tuned from the generator of the codes"
        )
    if latent is not None and latent.w.shape != code.w.shape:
        raise ConfigError(f"codes and latents of the same images, please: {len(code)} and {len(latent)} were given")
    parameters = dict(target.synthesis.named_parameters())
    if missing := sorted({*(code.scales or {}), *(code.weights or {})} - parameters.keys()):
        raise GeneratorMismatch(
            f"generator {target.name!r} has no {missing[0]}: it is not fine-tuned from that of the codes"
        )
    kept = {name for name in parameters if _side(name, target) >= share * target.resolution}
    return replace(
        code,
        w=code.w if latent is None else latent.w,
        scales={name: d for name, d in (code.scales or {}).items() if name in kept} or None,
        weights={name: d for name, d in (code.weights or {}).items() if name in kept} or None,
    )


def _side(name: str, generator: Generator) -> int:
    """The resolution that a parameter of the synthesis works at; 4 for the constant."""
    kind, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    if kind == "convs":
        return 4 * 2 ** ((int(number) + 1) // 2)
    return 4 * 2 ** int(number) if kind in ("torgbs", "skips") else 4
