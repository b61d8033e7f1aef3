"""Inversions as a data set of Hugging Face ``datasets`` (extra ``huggingface``).

    python examples/hugging_face.py --store runs/demo --latents e4e

A latent is a list of numbers in a row; its shape is in the file's header, from which ``load_latents`` takes it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import torch

from ganinv import Code, open_generator
from ganinv.generators.stylegan2 import Generator


def load_latents(store: str, latents: str, cache: str | None = None) -> datasets.Dataset:
    """``latents/<name>`` with ``w`` as float32 [num_ws, w_dim] tensors, in the order of the images' ids."""
    parts = sorted(map(str, Path(store, "latents", latents).glob("part-*.parquet")))
    header = json.loads(pq.read_schema(parts[0]).metadata[b"ganinv"])
    rows = datasets.load_dataset("parquet", data_files=parts, split="train", cache_dir=cache)
    shape = tuple(header["shapes"]["w"])
    features = rows.features.copy()
    features["w"] = datasets.Array2D(shape, "float32")
    shaped = rows.map(lambda row: {"w": torch.tensor(row["w"]).reshape(shape).numpy()}, features=features)
    return shaped.with_format("torch", columns=["w"], output_all_columns=True)


def pictures(rows: datasets.Dataset, generator: Generator) -> torch.Tensor:
    """What the latents alone render, [B, 3, R, R] in [-1, 1]: without what a method keeps beside them."""
    return generator.render(Code(torch.stack([row["w"] for row in rows])))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--latents", default="e4e")
    args = parser.parse_args()
    rows = load_latents(args.store, args.latents)
    print(rows)
    print("w of", rows[0]["image_id"], "is", tuple(rows[0]["w"].shape))
    print("renders to", tuple(pictures(rows.select(range(1)), open_generator("portraits-64")).shape))


if __name__ == "__main__":
    main()
