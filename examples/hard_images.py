"""Which images are hard? A question in SQL, since latents are plain Parquet.

python examples/hard_images.py --store runs/demo --latents pti
python examples/hard_images.py --store runs/demo --latents pti --against e4e    # where a method helps, and where not
"""

from __future__ import annotations

import argparse

import duckdb

HARD = """
select image_id, mse, mse / median(mse) over () as times_the_median, stop_reason
from read_parquet('{0}/latents/{1}/part-*.parquet')
qualify percent_rank() over (order by mse) >= {2}
order by mse desc
"""
AGAINST = """
select image_id, a.mse, b.mse as other_mse, a.mse / b.mse as ratio
from read_parquet('{0}/latents/{1}/part-*.parquet') a
join read_parquet('{0}/latents/{2}/part-*.parquet') b using (image_id)
where a.source_sha256 = b.source_sha256
order by ratio desc
"""


def hard_images(store: str, latents: str, share: float = 0.1) -> duckdb.DuckDBPyRelation:
    """The images with the largest errors, the worst first; ``share``: how many of all."""
    return duckdb.sql(HARD.format(store.rstrip("/"), latents, 1 - share))


def where_it_helps(store: str, latents: str, against: str) -> duckdb.DuckDBPyRelation:
    """The errors of one method beside those of another on the same photos, the worst ratio first."""
    return duckdb.sql(AGAINST.format(store.rstrip("/"), latents, against))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--latents", default="pti")
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--against", help="another collection, of the same images")
    args = parser.parse_args()
    if args.against:
        where_it_helps(args.store, args.latents, args.against).show()
    else:
        hard_images(args.store, args.latents, args.share).show()


if __name__ == "__main__":
    main()
