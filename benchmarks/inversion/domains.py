"""Encoders on clean and on degraded portraits, in the region of interest and on whole images, and on small grey faces.

    python -m benchmarks.inversion.domains --store runs/mine --data portraits.parquet --encoders e4e,restyle,interestyle,uda

Prints a table: mean squared errors against the clean image on samples, training and test portraits, and on test portraits that
lost something; beside each, in how many standard errors it differs from the first encoder's on the same images. Small faces are
scikit-image's `lfw_subset` (25 pixels, grey), framed as FFHQ's. With ``--judge``, the share of reconstructions that dlib takes
for the person of the image, where it sees a face in both (``[judges]``).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.inversion.encoders import IMAGES, SEED, split
from ganinv.codes.code import Code
from ganinv.config import validate
from ganinv.data import open_dataset
from ganinv.data.demo import demo_dataset
from ganinv.data.png import png_bytes
from ganinv.degradations.degrade import DegradeConfig, degrade
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter
from ganinv.store import open_store
from ganinv.training.masks import MaskConfig, grown, open_masks

LOST: Mapping[str, list[dict[str, Any]]] = {
    "rain": [{"kind": "rain"}],
    "strokes": [{"kind": "strokes"}],
    "half size": [{"kind": "down", "factors": [2]}],
    "quarter size, grey": [{"kind": "down", "factors": [4]}, {"kind": "grey"}],
    "jpeg": [{"kind": "jpeg", "quality": [10, 10]}],
}
"""What test portraits lose; the last two are in no recipe."""
SHOWN = 12


def main() -> None:
    """Measure, and print or write."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--store", required=True)
    asked.add_argument("--data", required=True, help="the portraits, with a column split")
    asked.add_argument("--encoders", required=True, help="names, comma between; others are compared with the first")
    asked.add_argument("--generator", default="portraits-64")
    asked.add_argument("--images", type=int, default=IMAGES, help="of each set, at most")
    asked.add_argument("--judge", action="store_true", help="ask dlib whether it is the same person")
    asked.add_argument("--out", type=Path, help="folder for table.md and a picture of each set")
    given = asked.parse_args()
    generator, store = open_generator(given.generator), open_store(given.store)
    encoders = {name: open_inverter(name, generator=generator, store=store) for name in given.encoders.split(",")}
    lines = ["| images | " + " | ".join(encoders) + " |", "|---|" + "---|" * len(encoders)]
    for name, seen, wanted in image_sets(generator, given.data, given.images):
        made = {one: reconstructed(inverter, generator, seen) for one, inverter in encoders.items()}
        for part, mask in regions(wanted, name):
            lines.append(row(f"{name}{part}", [squared(image, wanted, mask) for image in made.values()]))
        if given.judge:
            lines.append(f"| {name}, same person | " + " | ".join(same_person(made, wanted)) + " |")
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
            picture = [torch.cat(list(part[:SHOWN]), dim=2) for part in (seen, *made.values())]
            (given.out / f"{name.replace(' ', '-').replace(',', '')}.png").write_bytes(
                png_bytes(torch.cat(picture, dim=1))
            )
    table = "\n".join(lines) + "\n"
    print(table)
    if given.out is not None:
        (given.out / "table.md").write_text(table)


@torch.inference_mode()
def image_sets(generator: Generator, data: str, count: int = IMAGES) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, what is inverted, what it should become), images [N, C, R, R] in [-1, 1]."""
    z = sample_z(SEED, range(count), generator.z_dim)
    samples = generator.render(Code(w=generator.map(z.to(generator.device), truncation_psi=0.9))).clamp(-1, 1)
    yield "samples", samples, samples
    for part in ("train", "test"):
        images = split(data, part, generator)[:count].to(generator.device)
        yield part, images, images
    for name, steps in LOST.items():
        cfg = validate(DegradeConfig, {"choose": [steps]}, name)
        everyone = range(len(images))
        yield f"test, {name}", degrade(images, cfg, [SEED + n for n in everyone], list(everyone)).images, images
    small = small_faces(generator)[:count]
    yield "small faces", small, small


def small_faces(generator: Generator) -> Tensor:
    """scikit-image's faces, framed as FFHQ's, at the generator's size."""
    with tempfile.TemporaryDirectory() as folder:
        demo_dataset(folder, 2 * generator.resolution)
        dataset = open_dataset(folder)
        ids = sorted(one for one in dataset.ids if one.startswith("small-face"))
        return dataset.load(ids, generator.resolution).images.to(generator.device)


@torch.inference_mode()
def reconstructed(inverter: Inverter, generator: Generator, images: Tensor) -> Tensor:
    """What it makes of images [N, C, R, R]."""
    return torch.cat([generator.render(inverter(some)).clamp(-1, 1) for some in images.split(16)])


def regions(images: Tensor, name: str) -> Iterator[tuple[str, Tensor]]:
    """(words, mask [N, 1, R, R]): whole images, and of clean portraits the region of interest and the rest."""
    yield "", torch.ones_like(images[:, :1])
    if name in ("samples", "train", "test"):
        cfg = MaskConfig(segmenter="aligned-face", dilate=0.03)
        mask = grown(open_masks(cfg)(images, []), cfg.dilate)
        yield ", face and hair", mask
        yield ", the rest", 1 - mask


def squared(image: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Squared error within a mask, its mean over the mask's pixels: [N]."""
    error = ((image - wanted).square() * mask).sum(dim=(1, 2, 3))
    return error / (mask.sum(dim=(1, 2, 3)) * image.shape[1])


def row(name: str, errors: list[Tensor]) -> str:
    """Means, and the paired difference from the first column in standard errors."""
    cells = [f"{float(errors[0].mean()):.4f}"]
    for other in errors[1:]:
        apart = other - errors[0]
        deviation = float(apart.std() / len(apart) ** 0.5)
        cells.append(f"{float(other.mean()):.4f} ({float(apart.mean()) / deviation if deviation else 0:+.1f})")
    return f"| {name} | " + " | ".join(cells) + " |"


def same_person(made: Mapping[str, Tensor], wanted: Tensor) -> Iterator[str]:
    """For each encoder, how many reconstructions are of the image's person, of those in which there are faces."""
    from ganinv.judges.faces import SAME_PERSON, FaceJudge, identity_distance

    judge = FaceJudge()
    known = judge.describe(judge.look(wanted))
    for images in made.values():
        apart = identity_distance(judge.describe(judge.look(images)), known)
        seen = apart[apart == apart]
        yield f"{(seen < SAME_PERSON).mean():.0%} of {len(seen)}" if len(seen) else "no faces"


if __name__ == "__main__":
    main()
