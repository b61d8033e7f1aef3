"""A trained generator as the embedded one: measured, in half precision, beside its model card.

    ganinv train portraits-64-gan --store STORE --dataset portraits.parquet --where split=train
    python -m benchmarks.generator.ship --generator STORE/generators/portraits-64 --data portraits.parquet --where split=train \\
        --to ganinv/generators/assets/portraits-64

Measured are KID against the training images in the feature space of the shipped attribute net, and the nearest training
neighbour of generated samples in the same space.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Template
from rich.console import Console
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.data import open_dataset
from ganinv.generators.files import open_generator, read_json, save_generator
from ganinv.generators.grid import sample_grid
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import NetworkLabeller, open_trained
from ganinv.labels.features import features
from ganinv.metrics import kid


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", required=True, help="folder that a training made")
    parser.add_argument("--data", required=True, help="URL of the data set that it was trained on")
    parser.add_argument("--where", action="append", default=[], help="rows of a Parquet data set: split=train")
    parser.add_argument("--to", type=Path, required=True, help="folder of the generator's assets")
    parser.add_argument("--history", default="", help="a sentence for the model card on how this run went")
    args = parser.parse_args()
    dataset = open_dataset(args.data, where=dict(pair.split("=", 1) for pair in args.where) or None)
    generator = open_generator(args.generator)
    images = ((dataset.load(dataset.ids, generator.resolution).images + 1) * 127.5).round().to(torch.uint8)
    export(generator, read_json(f"{args.generator}/config.json"), images, args.to, args.history)


def export(generator: Generator, record: Mapping[str, Any], images: Tensor, folder: Path, history: str = "") -> None:
    """Write the generator's assets and its measurements.

    Args:
        record: how it was trained, as its training wrote it. images: uint8 [N, 3, R, R] that it was trained on.
    """
    generator.name = folder.name
    save_generator(generator, str(folder), half=True)
    shipped = open_generator(str(folder))
    recipe = record["recipe"]
    warm = recipe["warm_start"]["steps"] if recipe["warm_start"] else 0
    seen = (record["steps"] - warm) * recipe["batch_size"]
    measured = measure(shipped, images, open_trained("portraits-64"))
    card = {"kimg": seen / 1000, "training_images": len(images), "measured": measured}
    save_generator(shipped, str(folder), half=True, extra=card)
    sample_grid(shipped, psi=0.8).save(folder / "samples.png")
    warm_kimg = f"{warm * recipe['batch_size'] / 1000:.0f}"
    (folder / "MODEL_CARD.md").write_text(_model_card(shipped, card, folder, history, warm_kimg))
    Console().print(json.dumps(card, indent=1))


def _model_card(generator: Generator, card: dict[str, Any], folder: Path, history: str, warm_kimg: str) -> str:
    template = Template((Path(__file__).parent / "generator_card.md.j2").read_text(), keep_trailing_newline=True)
    return template.render(
        **card,
        history=history,
        **generator.cfg.model_dump(),
        name=generator.name,
        parameters=sum(p.numel() for p in generator.mapping.parameters())
        + sum(p.numel() for p in generator.synthesis.parameters()),
        size=(folder / "generator.safetensors").stat().st_size,
        warm_kimg=warm_kimg,
    )


def measure(generator: Generator, images: Tensor, labeller: NetworkLabeller, count: int = 2000) -> dict[str, float]:
    """KID and nearest neighbours in the labeller's feature space.

    ``nearest_cosine_*``: cosine of each generated image's centred features to its nearest training image (mirrored ones
    included); ``real_nearest_cosine_mean``: the same between training images, for scale.
    """
    real = features(labeller, images.float() / 127.5 - 1)
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(0))
    generated = generator.render(Code(w=generator.map(z)))
    fake = features(labeller, generated.clamp(-1, 1))
    mirrored = features(labeller, images.flip(3).float() / 127.5 - 1)
    mean = real.mean(0)
    known = _unit(np.concatenate([real, mirrored]) - mean)
    nearest = (_unit(fake - mean) @ known.T).max(1)
    among = _unit(real - mean) @ _unit(real - mean).T
    np.fill_diagonal(among, -1)
    distance = kid(fake, real)
    halves = np.random.default_rng(0).permutation(len(real))
    within = kid(real[halves[::2]], real[halves[1::2]])
    return {
        "samples": count,
        "real_kid": round(float(within.mean), 5),
        "kid": round(float(distance.mean), 5),
        "kid_std": round(float(distance.std), 5),
        "nearest_cosine_mean": round(float(nearest.mean()), 4),
        "nearest_cosine_max": round(float(nearest.max()), 4),
        "real_nearest_cosine_mean": round(float(among.max(1).mean()), 4),
    }


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
