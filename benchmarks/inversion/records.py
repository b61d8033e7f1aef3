"""What a tuned generator takes in the store, form by form, and what that costs: bytes, MSE, distance.

    python benchmarks/inversion/records.py --method pti --images 8 --where split=test \\
        --dataset "$GANINV_SHARED/data/official-portraits/portraits.parquet"

The first table is the spectrum of the weight deltas: the rank that a relative Frobenius error needs, layer by layer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.codes.parts import HeadCode, LowRank
from ganinv.codes.truncation import compress, truncated
from ganinv.data import open_dataset
from ganinv.generators.files import open_generator
from ganinv.losses.distance import between, open_distance
from ganinv.records.record import RecordConfig, decode, encode
from ganinv.stages.method import load_method
from ganinv.target import Target

ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)
Compare = Callable[[Code, Tensor], tuple[float, float]]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="pti")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--where", action="append", default=[])
    args = parser.parse_args()
    g = open_generator("portraits-64", "cuda" if torch.cuda.is_available() else "cpu")
    where = dict(pair.split("=", 1) for pair in args.where)
    dataset = open_dataset(args.dataset, where=where or None, limit=args.images)
    loaded = dataset.load(dataset.ids, g.resolution)
    target = Target(loaded.images, loaded.ids)
    code = load_method(args.method, g).invert(target).code.to("cpu")
    distance = open_distance("embedded", g)

    @torch.inference_mode()
    def compare(one: Code, image: Tensor) -> tuple[float, float]:
        rendered, image = g.synthesize(one.to(g.device)), image.to(g.device)
        gap = between(distance.features(rendered), distance.features(image))
        return float((rendered - image).square().mean()), float(gap)

    spectrum(code)
    forms(code, target.images, compare)


def spectrum(code: Code) -> None:
    """Print the median rank per layer and error."""
    print(f"{'median rank for an error of':32s} {'full':>6s}" + "".join(f"{e:>7.0%}" for e in ERRORS))
    for name, delta in (code.weights or {}).items():
        if isinstance(delta, HeadCode):
            continue
        matrix = (
            delta.left @ delta.right if isinstance(delta, LowRank) else delta.flatten(2) if delta.ndim > 2 else None
        )
        if matrix is not None and matrix[0].numel() > 1000:
            found = [[truncated(one[None], e)[0].left.shape[2] for one in matrix] for e in ERRORS]
            ranks = "".join(f"{int(torch.tensor(r).median()):7d}" for r in found)
            print(f"{name:32s} {min(matrix.shape[1:]):6d}{ranks}")


def forms(code: Code, images: Tensor, compare: Compare) -> None:
    """Print bytes and what they cost, for each form."""
    singles = [code[k] for k in range(len(code))]
    exact = [compare(one, images[k : k + 1]) for k, one in enumerate(singles)]
    dense = sum(4 * each.dense_numbers for each in compress(code, rank=1)[1])
    print(f"\ndense float32: {dense} bytes per image")
    print(f"{'form':28s} {'bytes':>9s} {'part':>7s} {'mse':>9s} {'distance':>9s} {'worst rise':>10s}")
    print(f"{'not stored':28s} {'':9s} {'':7s} {mean(exact, 0):9.5f} {mean(exact, 1):9.5f}")
    plain = [RecordConfig(dtype=dtype) for dtype in ("float32", "float16", "int8")]
    cut = [RecordConfig(form="low-rank", error=error, dtype=d) for error in ERRORS for d in ("float16", "int8")]
    ranks = [(rank, dtype) for rank in (4, 8, 16, 32) for dtype in ("float16", "int8")]
    ranked = [RecordConfig(form="low-rank", error=0, max_rank=rank, dtype=dtype) for rank, dtype in ranks]
    for config in (*plain, *cut, *ranked):
        size, costs = 0, []
        for k, one in enumerate(singles):
            data = encode(one, config)
            assert data is not None
            size += len(data)
            costs.append(compare(replace(Code(one.w), **decode(data)), images[k : k + 1]))
        size //= len(singles)
        rise = max((after[1] - before[1]) / before[1] for before, after in zip(exact, costs, strict=True))
        bound = f" {config.error:.0%}" if config.form == "low-rank" and config.error else ""
        rank = f" rank {config.max_rank}" if config.max_rank else ""
        print(
            f"{config.name + bound + rank:28s} {size:9d} {size / dense:7.1%} "
            f"{mean(costs, 0):9.5f} {mean(costs, 1):9.5f} {rise:10.2%}"
        )


def mean(pairs: list[tuple[float, float]], which: int) -> float:
    """Mean of the first or second numbers."""
    return sum(pair[which] for pair in pairs) / len(pairs)


if __name__ == "__main__":
    main()
