"""How far a detector's corners lie from where given crops were cut out of the same photos.

    python -m benchmarks.faces.corners --photos DIR --crops DIR                       # dlib
    python -m benchmarks.faces.corners --photos DIR --crops DIR --detector yunet --setting model=FILE.onnx --setting sides=[800]

Photos and crops are files of the same names. The place of each crop is found from its pixels (``registering.py``), to a fraction
of a pixel. Distances are of the farthest of the four corners, as a share of the crop's side.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.faces.registering import found_quad
from ganinv.data import decode_image
from ganinv.faces import align, open_detector
from ganinv.faces.base import Detector

FOUND = 1.5
"""Grey levels of mean difference that are left where the place of a crop was found."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--detector", default="dlib")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE", help="of the detector")
    args = parser.parse_args()
    settings = {key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in args.setting)}
    off = corners_off(args.photos, args.crops, open_detector(args.detector, **settings))
    print(
        f"{args.detector} {settings or ''}: {int((off <= 0.02).sum())} of {len(off)} within 2 % of the side, median "
        f"{np.median(off):.1%}, {np.quantile(off, 0.9):.1%} at nine tenths, at most {off.max():.1%}"
    )


def corners_off(photos: Path, crops: Path, detector: Detector) -> np.ndarray:
    """Of each photo that has a crop, by name."""
    found = []
    for name in sorted({path.name for path in photos.iterdir()} & {path.name for path in crops.iterdir()}):
        photo = decode_image((photos / name).read_bytes())
        if not (faces := _faces(photo, detector)):
            found.append(np.inf)
            continue
        with Image.open(crops / name) as crop:
            given, left = found_quad(photo, crop, faces[0])
        if left < FOUND:
            found.append(corner_distance(faces[0], given))
        else:
            print(f"{name}: the place of its crop was not found ({left:.1f} grey levels are left): left out")
    return np.array(found)


def _faces(photo: Image.Image, detector: Detector) -> Sequence[np.ndarray]:
    return [each.face.quad for each in align(photo, detector)]


def corner_distance(quad: np.ndarray, expected: np.ndarray) -> float:
    """The farthest corner's distance, as a share of the side, of quads [4, 2]."""
    return float(np.hypot(*(quad - expected).T).max() / np.hypot(*(expected[3] - expected[0])))


if __name__ == "__main__":
    main()
