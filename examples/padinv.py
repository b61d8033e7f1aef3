"""PadInv's two halves exchanged between two portraits, with the embedded generator.

    ganinv train portraits-64-padinv --store runs/mine --dataset photos
    python examples/padinv.py --out runs/padinv --encoder runs/mine/encoders/padinv

Writes strips of pictures: both portraits and their inversions, the structure of one with the style of the other, and an edit
that one pair shows given to another face.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from pictures import portraits, save

from ganinv import open_generator
from ganinv.editing.padding import edit_like, transfer_structure, transfer_style
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter
from ganinv.metrics import psnr


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", default="padinv", help="a trained PadInv: a folder, or one that ships by its name")
    args = parser.parse_args()
    generator = open_generator("portraits-64")
    run(args.out, generator, open_inverter(args.encoder, generator=generator))


@torch.no_grad()
def run(out: Path, g: Generator, padinv: Inverter) -> None:
    """All operations; strips of pictures in ``out``."""
    one, other = portraits(g.resolution).values()
    first, second = padinv(one), padinv(other)
    print("reconstruction:", *(f"{float(psnr(g.render(c), x)):.1f} dB" for c, x in ((first, one), (second, other))))
    save(out / "reconstruction.png", [one, g.render(first), other, g.render(second)])
    mixed = transfer_structure(style=second, structure=first)
    save(out / "structure-transfer.png", [g.render(first), g.render(second), g.render(mixed)])
    late = transfer_style(structure=first, style=second, rows=(g.num_ws // 2, g.num_ws))
    save(out / "style-transfer.png", [g.render(first), g.render(second), g.render(late)])
    mirrored = padinv(one.flip(3))
    half = edit_like(second, first, mirrored, style=0.5, structure=0.5)
    save(out / "pair.png", [g.render(code) for code in (first, mirrored, second, half)])
    print("pictures:", out)


if __name__ == "__main__":
    main()
