"""A generator before judges that had no part in its training.

    python -m benchmarks.generator.quality --data portraits.parquet --where split=train --generator portraits-64
    python -m benchmarks.generator.quality --data portraits.parquet --where split=train \\
        --generator STORE/training/portraits-64/best --grid samples.png --json quality.jsonl

Prints a Markdown table: kernel and Frechet distance to the data set in two feature spaces (SqueezeNet's, of ImageNet; dlib's
face descriptors), precision and recall, nearest training neighbours, faces found, glasses, perceptual path length in W; beside
them the same of one half of the data set against the other, as far as it makes sense. While a generator is trained, its best
so far can be judged, as above. ``--grid`` draws 100 samples nobody picked (psi 0.8) and, under
them, interpolations. Features are kept in ``--cache``, and divided by the data set's root mean square. The discriminator's
trunk (EfficientNet-Lite0) is no judge: the generator was trained against it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.pages import write_part
from ganinv.codes.code import Code
from ganinv.data import open_dataset
from ganinv.generators.files import open_generator
from ganinv.generators.grid import sample_grid
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.judges import (
    SAME_PERSON,
    Panel,
    nearest_neighbours,
    path_length,
    precision_recall,
    squeezenet_features,
)
from ganinv.metrics import frechet, kid

NEIGHBOURS = 3  # of precision and recall
SEED = 20_000
"""Samples are drawn with this seed: nothing else here uses it."""


HEADER = """## Generators, judged

Made by `benchmarks/generator/quality.py`. "squeezenet" are the last features of a net trained on ImageNet, "identity" dlib's
descriptors of faces, each divided by the data set's root mean square; KID with the cubic kernel over 50 subsets, precision and
recall with 3 neighbours. Frechet distance, precision and recall depend on the number of images: compare columns, not pages.
Path length is in W, by SqueezeNet, without LPIPS's fitted weights. Yaw and mouth are in units of the distance between the eyes.
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="data set URL")
    parser.add_argument("--where", action="append", default=[], help="rows of a Parquet data set: split=train")
    parser.add_argument("--generator", action="append", default=[], help="name, file or folder; may be repeated")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--cache", type=Path, help="folder to keep the data set's features in")
    parser.add_argument("--grid", type=Path, help="PNG of samples; with several generators a number is appended")
    parser.add_argument("--to", type=Path, help="page of Markdown: its part on generators is replaced")
    parser.add_argument("--json", type=Path, help="append a line for each generator to this file")
    args = parser.parse_args()
    generators = [open_generator(uri) for uri in args.generator or ["portraits-64"]]
    judges = Judges()
    where = dict(pair.split("=", 1) for pair in args.where)
    known = judges.known(args.data, where, generators[0].resolution, args.cache)
    columns = [judges.compare_halves(known, args.samples)]
    for n, g in enumerate(generators):
        line = judges.judge(g, known, args.samples, args.cache)
        columns.append(line)
        if args.json:
            with args.json.open("a") as file:
                file.write(json.dumps(line) + "\n")
        if args.grid:
            path = args.grid if len(generators) == 1 else args.grid.with_stem(f"{args.grid.stem}-{n}")
            draw(g).save(path)
    text = f"{HEADER}\n{table(columns)}\n\nJudges: {'; '.join(judges.names())}. {args.samples} samples at psi 1.\n"
    print(text)
    if args.to:
        write_part(args.to, "generators", text)


class Features:
    """Of N images: SqueezeNet's [N, 512]; dlib's descriptors [M, 128] of the M with a face; measures [N]."""

    def __init__(self, squeezenet: np.ndarray, identity: np.ndarray, measures: dict[str, np.ndarray]) -> None:
        self.squeezenet, self.identity, self.measures = squeezenet, identity, measures


class Judges:
    """All judges, opened once."""

    def __init__(self) -> None:
        self.panel = Panel()

    def names(self) -> list[str]:
        return [str(judge) for judge in self.panel.judges]

    def features(self, images: Tensor) -> Features:
        judged = self.panel.judge(images)
        features = squeezenet_features(self.panel.net, images)
        return Features(features, judged.descriptors[judged.found], judged.measures)

    def known(self, url: str, where: dict[str, str], resolution: int, cache: Path | None) -> Features:
        """Features of the data set."""
        dataset = open_dataset(url, where=where or None)
        what = [url, list(dataset.ids), resolution]
        return self.kept(cache, what, lambda: dataset.load(dataset.ids, resolution).images)

    def made(self, g: Generator, samples: int, cache: Path | None) -> Features:
        """Features of samples of a generator."""
        w = g.map(sample_z(SEED, range(samples), g.z_dim).to(g.device))
        return self.kept(cache, [g.fingerprint, samples, SEED], lambda: g.render(Code(w=w)).cpu())

    def kept(self, cache: Path | None, what: list[Any], images: Callable[[], Tensor]) -> Features:
        """Features of images, from the cache where it has them."""
        key = hashlib.sha256(json.dumps([*what, self.panel.judges]).encode()).hexdigest()[:16]
        path = None if cache is None else cache / f"judged-{key}.npz"
        if path is not None and path.is_file():
            stored = dict(np.load(path))
            return Features(stored.pop("squeezenet"), stored.pop("identity"), stored)
        found = self.features(images())
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept: dict[str, Any] = {"squeezenet": found.squeezenet, "identity": found.identity, **found.measures}
            np.savez(path, **kept)
        return found

    def judge(self, g: Generator, known: Features, samples: int, cache: Path | None = None) -> dict[str, Any]:
        """The numbers of a generator."""
        made = self.made(g, samples, cache)
        line: dict[str, Any] = {
            "name": g.name,
            "fingerprint": g.fingerprint,
            "samples": samples,
            "judges": self.names(),
        }
        line |= compare(made, known) | nearest(made, known)
        line["path length in W"] = path_length(g, self.panel.net, min(500, samples))
        return line

    def compare_halves(self, known: Features, samples: int) -> dict[str, Any]:
        """As many images of one half of the data set against the other half: what a perfect generator could reach."""

        def half(start: int, count: int | None = None) -> Features:
            rows, people = (
                np.random.default_rng(0).permutation(len(x))[start::2][:count]
                for x in (known.squeezenet, known.identity)
            )
            measures = {name: values[rows] for name, values in known.measures.items()}
            return Features(known.squeezenet[rows], known.identity[people], measures)

        a, b = half(0, samples), half(1)
        line = {"name": "data set, half against half", "samples": len(a.squeezenet)}
        return line | compare(a, b) | nearest(a, b)


def compare(made: Features, known: Features) -> dict[str, Any]:
    """Distances between two sets, and what the faces of the first are like."""
    line: dict[str, Any] = {}
    for space in ("squeezenet", "identity"):
        a, b = getattr(made, space), getattr(known, space)
        if min(len(a), len(b)) <= NEIGHBOURS:
            continue  # of a generator of no faces there are no descriptors: its cells stay empty
        # In units of the data set's own size: the cubic kernel (x . y / D + 1)^3 was made for features of about 1.
        size = np.sqrt(np.square(b, dtype=np.float64).mean())
        a, b = a / size, b / size
        distance = kid(a, b, subsets=50, subset_size=min(len(a), len(b)) // 2)
        found = precision_recall(b[: len(a)], a[: len(b)], NEIGHBOURS)
        line |= {
            f"KID x 1000, {space}": 1000 * distance.mean,
            f"KID x 1000, {space}, deviation": 1000 * distance.std,
            f"Frechet, {space}": frechet(a, b),
            f"precision, {space}": found.precision,
            f"recall, {space}": found.recall,
        }
    seen = made.measures["face"] > 0
    line["a face found"] = float(seen.mean())
    if not seen.any():
        return line
    line["wears glasses"] = float((made.measures["glasses"][seen] > 0.5).mean())
    for name in ("confidence", "yaw", "mouth_width", "eye_opening", "brightness", "contrast", "detail", "saturation"):
        line[f"{name}, mean"] = float(made.measures[name][seen].mean())
    line["yaw, deviation"] = float(made.measures["yaw"][seen].std())
    return line


def nearest(made: Features, known: Features) -> dict[str, float]:
    """How near faces come to those of the data set: memorised ones come very near."""
    if not len(made.identity) or not len(known.identity):
        return {}
    distance = nearest_neighbours(made.identity, known.identity).distance
    return {
        "nearest training face, median": float(np.median(distance)),
        "nearest training face, smallest": float(distance.min()),
        f"nearer than {SAME_PERSON} to a training face": float((distance < SAME_PERSON).mean()),
    }


def table(columns: list[dict[str, Any]]) -> str:
    """A row for each number, a column for each generator."""
    rows = ["| | " + " | ".join(column["name"] for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    numbers = {key: None for column in reversed(columns) for key, value in column.items() if isinstance(value, float)}
    cells = {key: " | ".join(f"{c[key]:.4g}" if key in c else "" for c in columns) for key in numbers}
    return "\n".join([*rows, *(f"| {key} | {cell} |" for key, cell in cells.items())])


def draw(g: Generator, psi: float = 0.8) -> Image.Image:
    """100 samples, and under them four interpolations in W of ten steps."""
    samples = sample_grid(g, rows=10, columns=10, psi=psi)
    w = g.map(sample_z(SEED, range(8), g.z_dim).to(g.device), truncation_psi=psi)
    steps = torch.linspace(0, 1, 10, device=w.device).view(1, -1, 1, 1)
    line = torch.lerp(w[:4, None], w[4:, None], steps).flatten(0, 1)
    tiles = ((g.render(Code(w=line)).clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
    size = g.resolution
    rows = tiles.view(4, 10, 3, size, size).permute(0, 3, 1, 4, 2).reshape(4 * size, 10 * size, 3).numpy()
    space = np.full((size // 4, 10 * size, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([np.asarray(samples), space, rows]))


if __name__ == "__main__":
    main()
