"""How alike an edited portrait stays, against how much the edit changed it, method by method.

    python -m benchmarks.directions.editability --store runs/editability --where split=test --limit 12 --to curves \\
        --dataset "$GANINV_SHARED/data/official-portraits/portraits.parquet"

The chain ``configs/chains/editability.yaml``, which resumes, and then ``ganinv editability``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.chain import chain, load_chain
from flows.cli.latents import editability


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--where", action="append", default=[])
    parser.add_argument("--limit", type=int, default=12)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    where = dict(pair.split("=", 1) for pair in args.where)
    job = load_chain(
        "editability", store=args.store, dataset={"url": args.dataset, "where": where, "limit": args.limit}
    )
    chain(job)
    editability(args.store, [edit.name for edit in job.edit], args.to)


if __name__ == "__main__":
    main()
