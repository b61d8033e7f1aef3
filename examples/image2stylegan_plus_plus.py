"""Image2StyleGAN++ on two portraits, with the embedded generator: nothing is downloaded.

    python examples/image2stylegan_plus_plus.py --out runs/image2stylegan-plus-plus

Writes one strip of pictures for each application and prints how well they fit. A few minutes on one CPU core;
``--steps 20 --noise-steps 20`` shows that it runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from pictures import portraits, strip
from PIL import Image, ImageDraw
from torch import Tensor

from ganinv import open_generator
from ganinv.editing.activation_tensors import copy_activations
from ganinv.editing.applications import crossover, inpaint, local_style, reconstruct, scribble, transfer
from ganinv.editing.embedding import Embedder, EmbeddingConfig
from ganinv.editing.masks import blurred, box
from ganinv.metrics import psnr
from ganinv.stages.variables import original_noise


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--noise-steps", type=int, default=100)
    args = parser.parse_args()
    run(args.out, EmbeddingConfig(steps=args.steps, noise_steps=args.noise_steps))


def run(out: Path, config: EmbeddingConfig) -> None:
    """All applications; strips of pictures in ``out``."""
    g = open_generator("portraits-64")
    embedder = Embedder(g, config, lanes=1)
    astronaut, hopper = portraits(g.resolution).values()
    size = g.resolution

    codes = [reconstruct(embedder, x) for x in (astronaut, hopper)]
    plain = [original_noise(code, g) for code in codes]
    rows = []
    for x, code, without in zip((astronaut, hopper), codes, plain, strict=True):
        images = {"image": x, "W+": g.render(without), "W+ and noise": g.render(code)}
        rows += list(images.items())
        print("reconstruction:", *(f"{name} {float(psnr(image, x)):.1f} dB" for name, image in rows[-2:]))
    save(out / "reconstruction.png", rows)

    mask = blurred(box(size, 0, 0, 1, 0.5), 2.0)
    code = crossover(embedder, astronaut, hopper, mask)
    pasted = mask * astronaut + (1 - mask) * hopper
    save(
        out / "crossover.png",
        [("pasted", pasted), ("W+", g.render(original_noise(code, g))), ("+ noise", g.render(code))],
    )

    hole = box(size, 0.55, 0.25, 0.85, 0.75)  # the mouth
    code = inpaint(embedder, astronaut, hole)
    save(
        out / "inpainting.png",
        [("seen", astronaut * (1 - hole) + hole), ("filled", g.render(code)), ("image", astronaut)],
    )

    code = local_style(embedder, astronaut, hopper, mask, plain[0])
    save(out / "local-style.png", [("content", astronaut), ("style, right", hopper), ("result", g.render(code))])

    drawn = astronaut
    for part in ((0.43, 0.28, 0.53, 0.46), (0.43, 0.54, 0.53, 0.72), (0.46, 0.46, 0.49, 0.54)):  # dark glasses
        drawn = torch.where(box(size, *part) > 0, -0.9, drawn)
    code = scribble(embedder, astronaut, drawn, plain[0], steps=config.steps // 3)
    save(out / "scribble.png", [("image", astronaut), ("drawn", drawn), ("result", g.render(code))])

    eyes, layers = blurred(box(size, 0.3, 0.1, 0.6, 0.9), 2.0), range(3, len(g.synthesis.convs))
    copied = copy_activations(g, codes[0], codes[1], layers, eyes)
    code = transfer(embedder, codes[0], codes[1], layers, eyes)
    images = [
        ("image", astronaut),
        ("gives its eyes", hopper),
        ("copied", g.render(copied)),
        ("embedded", g.render(code)),
    ]
    save(out / "activations.png", images)
    print("pictures:", out)


def save(path: Path, images: list[tuple[str, Tensor]]) -> None:
    """Images [1, 3, R, R] in [-1, 1] side by side, with their names above them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = strip([image for _, image in images])
    canvas = Image.fromarray(np.pad(pixels, ((16, 0), (0, 0), (0, 0)), constant_values=255))
    draw = ImageDraw.Draw(canvas)
    for i, (name, _) in enumerate(images):
        draw.text((4 + i * pixels.shape[1] // len(images), 2), name, fill=(0, 0, 0))
    canvas.save(path)


if __name__ == "__main__":
    main()
