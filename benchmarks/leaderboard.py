"""The leaderboard of the embedded generator, ``docs/leaderboard/leaderboard.md``: every method of ``configs/methods``, and those
that are bad on purpose (``configs/controls``), in one command from an empty store; it resumes, and finds everything done.

    python -m benchmarks.leaderboard --store runs/board --data portraits.parquet --other london --people '(\\d+)_' \\
        --to docs/leaderboard

Methods of a single pass are judged on ``--limit`` images of each data set, iterative ones on the first ``--few`` of them (ratios
are over images that both of a pair have), and those of more than ``LONG`` steps on ``--fewer``, with 0 not at all. What lacks an
encoder or weights, or is left out, is a row that says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ganinv.config import config_names
from ganinv.leaderboard.board import Board, collection_name
from ganinv.leaderboard.page import write
from ganinv.stages.method import method_config
from ganinv.store import open_store
from tasks.engine import open_pools
from tasks.jobs.engine import Engine
from tasks.steps.leaderboard import LOW_QUALITY, note_not_run, run_leaderboard
from tasks.steps.leaderboard_job import SAMPLES, LeaderboardJob

ROOT = Path(__file__).parents[1]
LONG = 200
"""Steps of a method from which it is judged on the fewest images."""
CONTROLS = sorted(str(path) for path in (ROOT / "configs/controls").glob("*.yaml"))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--data", required=True, help="Parquet data set with a column split, whose test part is taken")
    parser.add_argument("--other", default="", help="a data set of other people")
    parser.add_argument(
        "--people", default="", help="what captures the person in its ids, if it has several photos of some"
    )
    parser.add_argument("--only", nargs="+", default=[], help="methods; the rest of the board stays as it is")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--few", type=int, default=12)
    parser.add_argument("--fewer", type=int, default=8)
    parser.add_argument("--to", type=Path)
    args = parser.parse_args()
    sets: dict[str, Any] = {"portraits": {"url": args.data, "where": {"split": "test"}}, "lfw": {"url": LOW_QUALITY}}
    if args.other:
        sets["london"] = {"url": args.other}
    common = {"store": args.store, "datasets": sets}
    common["people"] = {"london": args.people} if args.other and args.people else {}
    with open_pools(Engine(kind="inline")) as pools:
        for limit, methods in tiers(args.only, args.limit, args.few, args.fewer).items():
            if methods and not limit:
                left = f"left out for time: it takes more than {LONG} steps for each image"
                named = {
                    collection_name(data, method_config(m).name): left for m in methods for data in (SAMPLES, *sets)
                }
                note_not_run(open_store(args.store), named)
            elif methods:
                job = LeaderboardJob.model_validate({**common, "methods": tuple(methods), "limit": limit})
                Console(stderr=True).print(f"{limit} images: {', '.join(methods)}")
                for name, why in run_leaderboard(job, pools)["not_run"].items():
                    Console(stderr=True).print(f"not run: {name}: {why}", soft_wrap=True, highlight=False)
    if args.to:
        Console().print(write(Board(open_store(args.store)), args.to))


def tiers(only: Sequence[str], limit: int, few: int, fewer: int) -> dict[int, list[str]]:
    """Number of images -> methods, those that need the fewest steps first."""
    out: dict[int, list[str]] = {limit: [], few: [], fewer: []}
    for name in only or [*config_names("methods"), *CONTROLS]:
        method = method_config(name)
        if method.of_frames and not only:  # photos of several people are no video
            continue
        counted = 0 if method.name.startswith("control-") else sum(_steps(stage) for stage in method.stages)
        out[limit if not counted else few if counted <= LONG else fewer].append(name)
    return out


def _steps(stage: Any) -> int:
    """Of an iterative stage; a pass of an encoder, however often it looks again, has none."""
    if not stage.iterative:
        return 0
    inner = getattr(stage, "optimize", None)
    return int(stage.steps if inner is None else 8 * inner.steps)  # one for each segment of a face


if __name__ == "__main__":
    main()
