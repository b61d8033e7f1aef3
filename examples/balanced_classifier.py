"""Training data that is balanced by edits: every face once with the attribute and once without.

    ganinv edit --store runs/demo --latents e4e --edit smile=-2 --edit smile=2 --name smiles
    python examples/balanced_classifier.py --store runs/demo --edits smiles --attribute smile

A classifier of few photos learns what happens to go along with its attribute: in the photos that there are, women smile more.
In the edits each person has both, so nothing but the edit tells the classes apart.
"""

from __future__ import annotations

import argparse

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import ganinv
from ganinv.generators.stylegan2 import Generator
from ganinv.records import CodeReader
from ganinv.store import Store


class EditedFaces(Dataset[tuple[Tensor, int]]):
    """Images [3, R, R] in [-1, 1] of ``edits/<name>``, rendered when they are asked for, and 1 where the strength is positive.

    Rows of strength 0 are left out, and images of which not both sides are there: so the classes are equally large.
    """

    def __init__(self, store: Store, name: str, generator: Generator) -> None:
        collection = store.edits[name]
        rows = collection.read(["image_id", "edit", "strength"])
        weight = [_signed(e, s) for e, s in zip(rows["edit"].to_pylist(), rows["strength"].to_pylist(), strict=True)]
        rows = rows.append_column("side", pa.array([(w > 0) - (w < 0) for w in weight], pa.int8()))
        sides = {side: set(rows.filter(pc.equal(rows["side"], side))["image_id"].to_pylist()) for side in (-1, 1)}
        both = sides[-1] & sides[1]
        self.items = [
            (row["image_id"], row["edit"], row["strength"], row["side"])
            for row in rows.to_pylist()
            if row["side"] and row["image_id"] in both
        ]
        self._collection, self._generator = collection, generator
        self._reader = CodeReader(store, collection, generator)

    def __len__(self) -> int:
        return len(self.items)

    @torch.no_grad()
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image_id, edit, strength, side = self.items[index]
        rows = self._collection.read(ids=[image_id])
        same = zip(rows["edit"].to_pylist(), rows["strength"].to_pylist(), strict=True)
        code = self._reader.codes(rows, [list(same).index((edit, strength))])
        return self._generator.render(code)[0], int(side > 0)


def _signed(edit: str, strength: float) -> float:
    """``smile=-2`` at strength 1 takes away what ``smile`` at strength 2 adds."""
    _, _, weight = edit.partition("=")
    return strength * float(weight) if weight else strength


def train(faces: EditedFaces, epochs: int = 8, seed: int = 0) -> tuple[nn.Module, float]:
    """A small classifier, and the share of the faces that it tells right."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1)),
        *(nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)),
    )
    images, labels = next(iter(DataLoader(faces, batch_size=len(faces))))  # few: rendered once, and kept
    net(images)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for some in torch.randperm(len(images)).split(16):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images[some]), labels[some]).backward()
            optimiser.step()
    with torch.no_grad():
        return net, float((net(images).argmax(1) == labels).float().mean())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--edits", required=True)
    parser.add_argument("--attribute", default="smile", help="what the edits are of, for what is printed")
    args = parser.parse_args()
    faces = EditedFaces(ganinv.open_store(args.store), args.edits, ganinv.open_generator("portraits-64"))
    positive = sum(side > 0 for *_, side in faces.items)
    print(f"{len(faces)} faces, {positive} with {args.attribute} and {len(faces) - positive} without")
    print(f"told right: {train(faces)[1]:.0%}")


if __name__ == "__main__":
    main()
