"""`ganinv align` of a whole folder, against the detector alone on the same photos and core.

    python -m benchmarks.scale.align --photos DIR --count 1000

Photos are those of DIR, over and over, each under a name of its own. The detector alone decodes a photo and looks for faces, and
keeps nothing. Some photos of one and some of the other in turn, in processor seconds, so that what else runs touches both alike.
The bar is 80 %.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from ganinv.data import open_dataset
from ganinv.faces import open_detector
from ganinv.store import RowError
from tasks.engine import Engine, open_pools
from tasks.steps.align import AlignJob, run_align


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--detector", default="dlib")
    args = parser.parse_args()
    found = sorted(path for path in args.photos.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    with tempfile.TemporaryDirectory() as place:
        pairs = []
        for turn in range(args.turns):
            folder = Path(place) / f"photos-{turn}"
            folder.mkdir()
            for k in range(turn, args.count, args.turns):
                source = found[k % len(found)]
                shutil.copy(source, folder / f"{k:06d}{source.suffix}")
            pairs.append((aligned(folder, Path(place) / "store", args.detector), looked(folder, args.detector)))
            one, other = pairs[-1]
            print(
                f"{len(list(folder.iterdir()))} photos: aligned in {one:.1f} s, looked at in {other:.1f} s", flush=True
            )
            shutil.rmtree(folder)
    share = statistics.median(other / one for one, other in pairs)
    rate = args.count / sum(one for one, _ in pairs)
    print(f"{args.count} photos, {rate:.2f}/s of a core: {share:.0%} of the detector's own rate")


def aligned(folder: Path, store: Path, detector: str) -> float:
    """Processor seconds of the step, from the listing of the folder to its Parquet."""
    job = AlignJob.model_validate(
        {"store": str(store), "dataset": {"url": str(folder)}, "name": folder.name, "detector": {"kind": detector}}
    )
    began = time.process_time()
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        run_align(job, pools)
    return time.process_time() - began


def looked(folder: Path, detector: str) -> float:
    """Processor seconds of decoding and looking."""
    dataset, judge = open_dataset(str(folder)), open_detector(detector)
    began = time.process_time()
    for photo in dataset.photos(dataset.ids):
        if not isinstance(photo, RowError):
            judge.faces(photo.image, photo.image_id)
    return time.process_time() - began


if __name__ == "__main__":
    main()
