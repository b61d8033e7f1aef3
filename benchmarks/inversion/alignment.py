"""How near W LSAP by optimisation holds codes, for each weight of its term, and what that costs in squared error.

    python -m benchmarks.inversion.alignment --data portraits.parquet   # six test portraits: a minute and a half

The ratio is the distance of the codes' styles to the generator's mean style, in units of samples' own (``StyleAlignment.ratio``).
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from benchmarks.inversion.encoders import split
from ganinv.config import validate
from ganinv.generators.files import open_generator
from ganinv.losses.alignment import StyleAlignment
from ganinv.stages.method import MethodConfig, method_config, open_method
from ganinv.stages.objective import ALIGNMENT_SAMPLES
from ganinv.target import Target

METHOD = "lsap-optimisation"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Parquet data set with a column split")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.03, 0.3])
    args = parser.parse_args()
    g = open_generator("portraits-64")
    images = split(args.data, "test", g)[: args.images]
    measure = StyleAlignment(g, ALIGNMENT_SAMPLES)
    table = Table("alignment_weight", "squared error", "distance of styles, samples = 1")
    for weight in args.weights:
        given = method_config(METHOD).model_dump(mode="json")
        given["stages"][0]["loss"]["alignment_weight"] = weight
        code = open_method(validate(MethodConfig, given, METHOD), g).invert(Target(images)).code
        error = float((g.render(code).clamp(-1, 1) - images).square().mean())
        table.add_row(f"{weight:g}", f"{error:.4f}", f"{float(measure.ratio(code.w).mean()):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
