"""``python -m tests.chaos --seed 0``: kill workers, nodes, the driver and the S3 server of one run, and compare tables."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.blows import shared_out
from tests.chaos.run import Report, run_chaos


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of victims and moments")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20, help="in total; at least one of each kind")
    parser.add_argument("--nodes", type=int, default=2, help="besides the head, one CPU each")
    parser.add_argument("--folder", type=Path, help="for logs and objects; a temporary one by default")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("ganinv.chaos").setLevel(logging.INFO)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="ganinv-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    counts = shared_out(arguments.kills)
    print(f"seed {arguments.seed}, {arguments.images} images, kills {counts}, logs in {folder}", flush=True)
    report = run_chaos(folder, arguments.seed, arguments.images, counts, arguments.nodes)
    show(report)
    if report.blows < sum(counts.values()):
        print(f"the run was over after {report.blows} of {sum(counts.values())} kills: give it more images")
    sys.exit(0 if report.ok and report.blows == sum(counts.values()) else 1)


def show(report: Report) -> None:
    done = Table("at", "parts", "killed", "which")
    for seconds, parts, what, victim in report.events:
        done.add_row(f"{seconds:.1f} s", str(parts), what, victim)
    outcome = Table("check", "", "")
    for check in report.checks:
        outcome.add_row(check.name, "holds" if check.ok else "FAILS", check.detail)
    console = Console(width=110)
    console.print(done, outcome)
    console.print(
        f"{report.blows} kills in {report.seconds:.0f} s (undisturbed, in one process: {report.undisturbed_seconds:.0f} s); "
        f"the driver ended by itself {report.own_ends} times",
        highlight=False,
    )


if __name__ == "__main__":
    main()
