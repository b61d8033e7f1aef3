"""Put a trained encoder into the package, in half precision.

ganinv train --store runs/e4e --dataset portraits.parquet --where split=train --steps 1000 --recipe portraits-64-e4e
python -m ganinv.methods.ship --encoder runs/e4e/encoders/e4e --to ganinv/methods/assets/e4e
"""

from __future__ import annotations

import argparse
import json

import fsspec

from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.methods.files import open_e4e, save_encoder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--generator", default=EMBEDDED)
    parser.add_argument("--to", required=True)
    args = parser.parse_args()
    generator = open_generator(args.generator)
    fs, path = fsspec.url_to_fs(args.encoder)
    meta = json.loads(fs.cat_file(f"{path}/config.json"))
    kept = {key: meta[key] for key in ("training", "steps") if key in meta}
    save_encoder(open_e4e(args.encoder, generator=generator), args.to, generator=generator, half=True, extra=kept)


if __name__ == "__main__":
    main()
