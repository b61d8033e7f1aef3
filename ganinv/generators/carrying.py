"""How stored features follow an edit of the latent that they were made with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ganinv.codes.code import Code
from ganinv.codes.parts import masked
from ganinv.generators.stylegan2 import Generator


@torch.no_grad()
def carry_features(generator: Generator, code: Code, edited: Code) -> Code:
    """``edited`` with its replaced features moved by what the edit does to the generator's own features at that site:
    F' = F + G_k(w') - G_k(w) (the rule of the Feature-Style encoder, Yao et al. 2022, section 3.3; it has no parameters).

    Without it a stored map holds on to the unedited image, and no edit of structure shows. A stored image of the toRGB
    layers below moves alike. Added and modulated features act on what the edited latent gives, so they stay.

    Args:
        code: the inversion, [B]. edited: the same codes after an edit, [B], with the same extras.
    """
    stored = {site: f for site, f in (edited.features or {}).items() if f.replace is not None or f.image is not None}
    if not stored:
        return edited
    sites = [*stored, *(_image(site) for site, feature in stored.items() if feature.image is not None)]
    last = max(int(site[site.index("[") + 1 : -1]) for site in stored)
    _, before = generator.synthesize(replace(code, features=None), stop=last, capture=sites)
    _, after = generator.synthesize(replace(edited, features=None), stop=last, capture=sites)
    moved = dict(edited.features or {})
    for site, feature in stored.items():
        changes: dict[str, Any] = {}
        for operation, at in (("replace", site), ("image", _image(site))):
            value = getattr(feature, operation)
            if value is not None:
                held = masked(value)
                changes[operation] = replace(held, value=held.value + (after[at] - before[at]))  # exact for no edit
        moved[site] = replace(feature, **changes)
    return replace(edited, features=moved)


def _image(site: str) -> str:
    """The site of the RGB sum beside the features at ``block[k]``."""
    return site.replace("block", "image")
