"""e4e against projection to W, before judges that trained neither: which is the better start?

    python -m benchmarks.inversion.starts --data portraits.parquet                # of the generator that ships: five minutes
    python -m benchmarks.inversion.starts --data portraits.parquet --revision d7ef4b6    # of version 1, out of git

A share says on how many portraits e4e is nearer, with its standard error. SqueezeNet, EfficientNet-Lite1 and dlib's recogniser
trained nothing here; EfficientNet-Lite0 was the generator's critic, but no method's loss. The embedded distance is what the
projection minimises.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.inversion.encoders import split
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.judges import EfficientNet, FaceJudge, SqueezeNet, identity_distance
from ganinv.losses.distance import DistanceName, between, open_distance
from ganinv.methods.files import open_inverter
from ganinv.stages.method import method_config, open_method
from ganinv.target import Target

SIDE = 128
GENERATOR, ENCODER = "ganinv/generators/assets/portraits-64", "ganinv/methods/assets/e4e"
Measure = Callable[[Tensor, Tensor], Tensor]
"""Images and renderings [N, 3, R, R] in [-1, 1] -> [N], less is nearer."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Parquet data set with a column split")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--revision", help="take generator and encoder out of this commit")
    args = parser.parse_args()
    with assets(args.revision) as (generator, encoder):
        report(*compared(generator, encoder, args.data, args.images))


@contextmanager
def assets(revision: str | None) -> Iterator[tuple[str, str]]:
    """URIs of a generator and of its e4e: those that ship, or those of a commit."""
    if revision is None:
        yield EMBEDDED, "e4e"
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(["git", "archive", revision, GENERATOR, ENCODER], check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
        yield f"{folder}/{GENERATOR}", f"{folder}/{ENCODER}"


def compared(generator: str, encoder: str, data: str, count: int) -> tuple[str, dict[str, tuple[Tensor, Tensor]]]:
    """The generator's fingerprint, and of each measure e4e's and the projection's values, each [N]."""
    g = open_generator(generator)
    images = split(data, "test", g)[:count]
    with torch.inference_mode():
        encoded = g.render(open_inverter(encoder, generator=g)(images)).clamp(-1, 1)
    projected = g.render(open_method(method_config("w-projection"), g).invert(Target(images)).code).clamp(-1, 1)
    with torch.inference_mode():
        found = {name: (measure(images, encoded), measure(images, projected)) for name, measure in measures(g).items()}
    return g.fingerprint, found


def measures(g: Generator) -> dict[str, Measure]:
    """By name."""
    squeezenet, efficientnet, faces = SqueezeNet(), EfficientNet(), FaceJudge()
    nets: list[DistanceName] = ["embedded", "efficientnet-lite0"]
    embedded, lite = (open_distance(name, g).features for name in nets)

    def of_squeezenet(images: Tensor, made: Tensor) -> Tensor:
        return layered(*(list(squeezenet(enlarged(some)).values()) for some in (images, made)))

    def of_efficientnet(images: Tensor, made: Tensor) -> Tensor:
        return layered(efficientnet(images), efficientnet(made))

    def identity(images: Tensor, made: Tensor) -> Tensor:
        one, other = (faces.describe(faces.look(some)) for some in (images, made))
        return torch.from_numpy(identity_distance(one, other))

    return {
        "squared error": lambda images, made: (images - made).square().mean((1, 2, 3)),
        "embedded distance": lambda images, made: between(embedded(images), embedded(made)),
        "SqueezeNet 1.1, eight layers, 1 - cosine": of_squeezenet,
        "EfficientNet-Lite1, five layers, 1 - cosine": of_efficientnet,
        "EfficientNet-Lite0": lambda images, made: between(lite(images), lite(made)),
        "dlib's recogniser: identity": identity,
    }


def layered(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """[N]: 1 less the cosine of features, mean over positions and layers."""
    of_layers = [1 - F.cosine_similarity(a, b).mean((1, 2)) for a, b in zip(one, other, strict=True)]
    return torch.stack(of_layers).mean(0)


def enlarged(images: Tensor) -> Tensor:
    return F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)


def report(fingerprint: str, found: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Print the table."""
    table = Table("measure", "e4e", "projection to W", "e4e nearer on", title=f"generator {fingerprint[:12]}")
    for name, (encoded, projected) in found.items():
        both = ~(encoded.isnan() | projected.isnan())
        nearer = (encoded < projected)[both].double()
        error = (nearer.mean() * (1 - nearer.mean()) / len(nearer)).sqrt()
        cells = (f"{some[both].mean():.4f}" for some in (encoded, projected))
        table.add_row(name, *cells, f"{nearer.mean():.0%} ± {error:.0%} of {len(nearer)}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
