"""Golden numbers of our own, small enough to ship, for clones without what other programs recorded (``GANINV_SHARED``).

``networks``: what every network makes of closed-form weights and images. They tell that a network computes what it did when the
numbers were recorded, not that this is right: the recordings of other programs and checks of the papers' equations tell that.

``files``: what the generators and discriminators of files in other programs' layouts compute (``tests.generators.made``).

``outlines``: digests of the names and shapes of published files (``tests.encoders.outlines``), equal to those of the recordings.

``python -m tests.own_golden`` records them again, after a change that is meant to move them; CHANGELOG then says so.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.registry import INVERTERS
from tests.closed_form import closed_form_tensor, fill
from tests.contracts.inverters import needed_of, small_of
from tests.encoders.outlines import digest, digests, recorded_shapes
from tests.generators.made import generator_files, make_files
from tests.tiny import tiny_generator

FILE = Path(__file__).with_name("own_golden.json")
SALT = "ganinv"
SHOWN = 4
"""Values of each tensor that are kept, evenly spaced."""


def numbers(kind: str) -> dict[str, list[float]]:
    """Of the latents and of the rendering of two images: mean, standard deviation, and a few values."""
    g = generator()
    cls, needed = INVERTERS[kind], needed_of(kind, g)
    torch.manual_seed(5)
    made = cls(validate(cls.Config, cls.Config.for_generator(g, small_of(cls.Config)), kind), g, needed)
    frozen = {id(parameter) for parameter in g.parameters()}
    fill(made, SALT, "inverter", frozen)
    code = made.eval().requires_grad_(False)(images())
    return {"w": summary(code.w), "rendered": summary(g.synthesize(code))}


def rendered() -> dict[str, list[float]]:
    """The generator and its discriminator alone."""
    g = generator()
    w = g.map(closed_form_tensor(SALT, "z", [2, g.z_dim], 0.0, 1.7))
    image = g.synthesize(Code(w=w))
    assert g.discriminator is not None
    return {"w": summary(w), "rendered": summary(image), "judged": summary(g.discriminator(image))}


def of_file(file: Path) -> dict[str, list[float]]:
    """Of a file with a generator: latents of two samples, their renderings without noise and with, and what its discriminator
    makes of these."""
    g = open_generator(str(file))
    c = torch.eye(g.c_dim)[:2] if g.c_dim else None
    w = g.map(closed_form_tensor(SALT, "z", [2, g.z_dim], 0.0, 1.7), c, truncation_psi=0.7)
    image = g.synthesize(Code(w=w))
    found = {"w": summary(w), "plain": summary(g.synthesize(Code(w=w), noise="none")), "rendered": summary(image)}
    return found | ({} if g.discriminator is None else {"judged": summary(g.discriminator(image, c))})


def generator() -> Generator:
    g = tiny_generator()
    fill(g, SALT, "generator")
    g.w_mean.copy_(closed_form_tensor(SALT, "w_mean", list(g.w_mean.shape), 0.0, 0.3))
    return g


def images() -> Tensor:
    """[2, 3, 32, 32] in [-1, 1], smooth enough to be seen by a strided convolution."""
    coarse = closed_form_tensor(SALT, "images", [2, 3, 8, 8], 0.0, 1.0)
    return nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False)


def summary(tensor: Tensor) -> list[float]:
    flat = tensor.detach().double().flatten()
    shown = flat[torch.linspace(0, len(flat) - 1, SHOWN).long()]
    return [round(float(value), 6) for value in (flat.mean(), flat.std(), *shown)]


def all_numbers() -> dict[str, Any]:
    return {"generator": rendered(), **{kind: numbers(kind) for kind in INVERTERS}}


def checked_outlines(golden: Path) -> dict[str, str]:
    """Digests of the published files' names and shapes.

    Raises:
        SystemExit: ours are others than those of the recordings in ``golden``, or there are no recordings to compare with.
    """
    found = digests()
    recorded = json.loads(FILE.read_text())["outlines"]
    changed = [case for case in found if recorded.get(case) != found[case]]
    if changed and not golden.is_dir():
        sys.exit(
            f"names or shapes of {', '.join(changed)} changed: set GANINV_SHARED to compare them with the recordings"
        )
    if wrong := [case for case in changed if digest(recorded_shapes(golden, case)) != found[case]]:
        sys.exit(f"names or shapes of {', '.join(wrong)} are not those of the published files in {golden}")
    return found


def main() -> None:
    shared = Path(os.environ.get("GANINV_SHARED") or FILE.parents[2] / "shared")
    outlines = checked_outlines(shared / "golden")
    with TemporaryDirectory() as folder:
        make_files(Path(folder) / "made")
        files = {file.name: of_file(file) for file in generator_files(Path(folder) / "made")}
    found = {"networks": all_numbers(), "files": files, "outlines": outlines}
    FILE.write_text(_lines(found) + "\n")
    print(f"{FILE}: {len(found['networks'])} networks, {len(files)} files, {len(outlines)} outlines")


def _lines(found: dict[str, Any]) -> str:
    """JSON with a line for each list, so that a change of the file can be read."""

    def joined(match: re.Match[str]) -> str:
        return f"[{' '.join(match[1].split())}]"

    return re.sub(r"\[\s+([^\]]*?)\s+\]", joined, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
