"""How well the identity judge tells people apart, on a user's own pictures and at any size.

    python -m ganinv.judges.identity --images photos --person '(\\d+)_.*' --size 64

``--person`` is a regular expression that captures the person in an image's id; all pairs of images are compared. If the area
under the curve is less than .95, identity at that size means little.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sklearn.metrics import roc_auc_score

from ganinv.data import open_dataset
from ganinv.errors import DataError
from ganinv.judges.faces import SAME_PERSON, FaceJudge, identity_distance

ENOUGH = 0.95
"""Area under the curve from which the judge can be trusted."""


@dataclass(frozen=True)
class Verification:
    """Distances between images of one person, and between images of two.

    Args:
        same: [P], of pairs of one person. different: [Q], of pairs of two.
    """

    same: np.ndarray
    different: np.ndarray

    @property
    def auc(self) -> float:
        """Probability that two images of one person are nearer than two of different ones."""
        labels = np.repeat([1, 0], [len(self.same), len(self.different)])
        return float(roc_auc_score(labels, -np.concatenate([self.same, self.different])))

    def __str__(self) -> str:
        believed = "" if self.auc >= ENOUGH else f" Under {ENOUGH}: identity at this size says little."
        return (
            f"AUC {self.auc:.4f} of {len(self.same)} pairs of one person (distance {self.same.mean():.3f}, at most "
            f"{self.same.max():.3f}) against {len(self.different)} of two (distance {self.different.mean():.3f}, at least "
            f"{self.different.min():.3f}; {(self.different < SAME_PERSON).mean():.1%} under {SAME_PERSON}).{believed}"
        )


def verify(descriptors: np.ndarray, people: Sequence[str]) -> Verification:
    """Compare all pairs of descriptors [N, 128]; images without a face (NaN) are left out.

    Raises:
        DataError: there are no two images of one person, or none of two people.
    """
    seen = [n for n in range(len(people)) if not np.isnan(descriptors[n]).any()]
    pairs = list(combinations(seen, 2))
    one = np.array([people[a] == people[b] for a, b in pairs], dtype=bool)
    if not one.any() or one.all():
        raise DataError(
            f"verification needs two images of one person and two of different ones; the {len(seen)} images with a face "
            f"are of {len({people[n] for n in seen})} people"
        )
    first, second = np.array(pairs).T
    distance = identity_distance(descriptors[first], descriptors[second])
    return Verification(distance[one], distance[~one])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="data set URL of aligned faces")
    parser.add_argument(
        "--person", default=r"([^_./]+)_", help="a regular expression that captures the person in an id"
    )
    parser.add_argument("--size", type=int, nargs="+", default=[64, 128, 256], help="pixels a side to look at")
    args = parser.parse_args()
    judge, dataset = FaceJudge(), open_dataset(args.images)
    people = {}
    for image_id in dataset.ids:
        match = re.search(args.person, image_id)
        if match is None:
            raise SystemExit(f"--person {args.person!r} finds no person in the id {image_id!r}")
        people[image_id] = match.group(1)
    print(judge.judges[1])
    for size in args.size:
        loaded = dataset.load(dataset.ids, size)
        faces = judge.look(loaded.images)
        print(f"{size} pixels: a face in {faces.found.sum()} of {len(loaded.ids)} images. ", end="")
        print(verify(judge.describe(faces), [people[i] for i in loaded.ids]))


if __name__ == "__main__":
    main()
