"""Tables of inversions and of what edits do to the labeller's scores: some methods on real portraits, through the flow.

    python -m benchmarks.inversion.portraits run --store runs/portraits --where split=test \\
        --dataset "$GANINV_SHARED/data/official-portraits/portraits.parquet"
    python -m benchmarks.inversion.portraits run --store runs/london \\
        --dataset "$GANINV_SHARED/data/real-photos/london-cc-by-aligned256"
    python -m benchmarks.inversion.portraits table --store runs/portraits --store runs/london

``run`` is the chain ``configs/chains/portraits.yaml`` and resumes; ``table`` only reads the stores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.pages import write_part
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.store import Collection, Store, open_store, tensor_numpy
from ganinv.store.tensors import parquet_table
from tasks.summary import TABLE

METHODS = ("w-projection", "e4e", "sfe", "w-plus-optimisation", "pti-w", "pti")
ORDER = ("pti", "w-plus-optimisation", "e4e", "w-projection")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--store", action="append", required=True)
    parser.add_argument("--dataset")
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--to", type=Path)
    args = parser.parse_args()
    if args.action == "run":
        run(args)
        return
    text = HEADER + "\n".join(section(open_store(url)) for url in args.store)
    if args.to:
        write_part(args.to, "portraits", text)
    print(text)


HEADER = """## Inversions

Made by `benchmarks/inversion/portraits.py`; its head shows the commands. MSE and PSNR are on images clamped to [-1, 1]
(peak 2), at the generator's 64x64 pixels, SSIM with an 11x11 Gaussian window per channel. "Distance" is the embedded one:
normalised features of the shipped discriminator. MS-SSIM needs 176 pixels and is not defined here. Seconds are processor
seconds per image, everything from reading to writing: read them as ratios. "From the mean of W" is the root mean square
distance of a code's rows to the mean latent, in units of the generator's w_std: samples have 1.

In the literature e4e beats projection to W. Not here in MSE: the projection fits 128 numbers to each image, further out than W's
samples lie (see that column), and the encoder has to generalise from 1,973 portraits and from samples, on which its MSE is 0.007.
The London faces were lit, framed and chosen differently.
"""


def run(args: argparse.Namespace) -> None:
    """Run or resume the chain."""
    from flows.chain import chain, load_chain

    where = dict(pair.split("=", 1) for pair in args.where)
    dataset = {"url": args.dataset, "where": where, "limit": args.limit}
    chain(load_chain("portraits", store=args.store[0], dataset=dataset))


def section(store: Store) -> str:
    """The tables of one store."""
    metrics = {m: store.metrics[m].read() for m in METHODS if m in store.metrics}
    first = next(iter(metrics))
    origin = store.latents[first].provenance()
    data = store.latents[first].plan().config["dataset"]
    where = " ".join(f"{k}={v}" for k, v in data["where"].items())
    lines = [
        f"\n### {Path(data['url']).name} {where}".rstrip(),
        f"\nGenerator `{origin['generator_name']}` ({origin['generator_fingerprint'][:12]}), "
        f"{metrics[first].num_rows} images.\n",
        "| method | images | MSE | PSNR | SSIM | distance | from the mean of W | CPU s/image |",
        "|---|---|---|---|---|---|---|---|",
    ]
    generator = open_generator(origin["generator_name"])
    for method, table in metrics.items():
        means = [_mean(table, c) for c in ("mse", "psnr", "ssim", "distance")]
        seconds = processor_seconds(store.latents[method])
        lines.append(
            f"| {method} | {table.num_rows} | {means[0]:.4f} | {means[1]:.2f} | {means[2]:.3f} | {means[3]:.3f} "
            f"| {from_the_mean(store.latents[method].read(['w']), generator):.2f} | {seconds:.2f} |"
        )
    if set(ORDER) <= set(metrics):
        lines += ["", *order_lines({m: metrics[m] for m in ORDER})]
    if "edits" in store.list("edit-metrics"):
        lines += ["", *edit_lines(store.collection("edit-metrics", "edits").read())]
    return "\n".join(lines) + "\n"


def processor_seconds(collection: Collection) -> float:
    """Of an image, in all runs that filled the collection."""
    runs = parquet_table(collection.objects.read(f"{collection.path}/{TABLE}"))
    return float(np.sum(runs["cpu_seconds"])) / float(np.sum(runs["ok"]) + np.sum(runs["failed"]))


def from_the_mean(table: pa.Table, generator: Generator) -> float:
    """How far codes lie from the mean latent, in units of w_std: 1 is the root mean square of samples."""
    w = torch.from_numpy(tensor_numpy(table["w"]))
    distance = (w - generator.w_mean).square().sum(2).mean(1).sqrt()
    return float(distance.mean() / generator.w_std)


def order_lines(metrics: dict[str, pa.Table]) -> list[str]:
    """On how many images the literature's order holds in MSE, whole and pair by pair."""
    by_id = [dict(zip(t["image_id"].to_pylist(), t["mse"].to_pylist(), strict=True)) for t in metrics.values()]
    ids = sorted(set.intersection(*(set(d) for d in by_id)))
    values = np.array([[d[i] for i in ids] for d in by_id])
    better = values[:-1] < values[1:]
    pairs = ", ".join(f"{a} < {b} {100 * s:.0f} %" for a, b, s in zip(ORDER, ORDER[1:], better.mean(1), strict=False))
    return [f"Order {' < '.join(ORDER)} in MSE: on {100 * better.all(0).mean():.0f} % of {len(ids)} images ({pairs})."]


def edit_lines(table: pa.Table) -> list[str]:
    """Share of images whose score moves monotonically, and mean side effects per unit strength."""
    names = [
        c.removeprefix("score_") for c in table.schema.names if c.startswith("score_") and not c.endswith("_before")
    ]
    frame = {c: np.array(table[c].to_pylist()) for c in table.schema.names}
    out = [
        "| edit | monotone | " + " | ".join(f"d {n}" for n in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for edit in dict.fromkeys(frame["edit"].tolist()):
        if edit not in names:
            continue
        rows = frame["edit"] == edit
        monotone, slopes = [], []
        for image in np.unique(frame["image_id"][rows]):
            mine = rows & (frame["image_id"] == image)
            order = np.argsort(frame["strength"][mine])
            strength = frame["strength"][mine][order]
            scores = {n: frame[f"score_{n}"][mine][order] for n in names}
            monotone.append((np.diff(scores[edit]) > 0).all())
            slopes.append([np.polyfit(strength, scores[n], 1)[0] for n in names])
        slope = np.mean(slopes, axis=0)
        out.append(f"| {edit} | {100 * np.mean(monotone):.0f} % | " + " | ".join(f"{s:+.2f}" for s in slope) + " |")
    note = "`monotone`: the score rises at each of five strengths. `d`: mean change of a score per unit of strength."
    return [*out, "", note]


def _mean(table: Any, column: str) -> float:
    return float(np.mean(table[column].to_numpy()))


if __name__ == "__main__":
    main()
