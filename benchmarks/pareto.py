"""Which mixture of start, optimisation and tuning gives the most for its seconds: the search that the defaults come from.

    python -m benchmarks.pareto run                     every candidate on test portraits; resumes; one line of JSON for each
    python -m benchmarks.pareto draw --to docs          pareto.svg and pareto.md from these lines

A candidate is a list of stages as in a method's YAML. Stages that several candidates begin with are run once. Seconds are
processor seconds per image (all threads) on a CPU, wall-clock seconds with a GPU: read them as ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.per_image import Clock, errors, targets
from ganinv.code import Code
from ganinv.config import digest
from ganinv.encoders.files import open_encoder
from ganinv.generators.files import open_generator
from ganinv.methods import MethodConfig
from ganinv.report.plots import cost
from ganinv.stages.base import Context

RESULTS = Path(__file__).parent / "results" / "pareto.jsonl"
LOSS = {"distance": "embedded", "distance_weight": 1.0, "mse_weight": 1.0}


def candidates() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(name, stages) of all mixtures."""
    encode: dict[str, Any] = {"kind": "encode", "encoder": "e4e"}

    def optimize(space: str, steps: int, lr: float, start: str = "code", **more: Any) -> dict[str, Any]:
        settings = {"latent_noise": 0.0 if start == "code" else 0.05, "loss": LOSS, **more}
        return {"kind": "optimize", "space": space, "start": start, "steps": steps, "lr": lr, **settings}

    starts = {
        "w40": [optimize("w", 40, 0.15, "mean")],
        "w100": [optimize("w", 100, 0.1, "mean")],
        "e4e": [encode],
        "e4e+w+30": [encode, optimize("w+", 30, 0.05)],
    }
    tunings = [
        *({"form": "dense", "lr": lr} for lr in (2e-3, 4e-3)),
        *({"form": "low-rank", "rank": r, "lr": lr} for r, lr in itertools.product((4, 8), (3e-3, 1e-2))),
        {"form": "styles", "lr": 0.02},
    ]
    for start, stages in starts.items():
        yield start, stages
        for t, steps in itertools.product(tunings, (20, 60)):
            name = f"{start} {t['form']}{t.get('rank', '')} lr{t['lr']:g} {steps}"
            yield name, [*stages, {"kind": "tune", "steps": steps, "lr_rampdown": 0.5, "loss": LOSS, **t}]
    yield "w+150", [optimize("w+", 150, 0.05, "mean", latent_noise=0.0)]
    yield "w+ lbfgs 60", [optimize("w+", 60, 1.0, "mean", latent_noise=0.0, optimizer="lbfgs")]
    yield "e4e+w+100", [encode, optimize("w+", 100, 0.05)]
    yield "e4e+w+30 act[7] 60", [encode, optimize("w+", 30, 0.05), {
        **optimize("w+", 60, 0.0), "space": None, "lr": 0.05, "features": [{"site": "act[7]"}]
    }]  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "draw"])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", default="", help="candidates whose name has this in it")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--to", type=Path, default=Path("docs"))
    args = parser.parse_args()
    if args.action == "run":
        run(args)
    else:
        draw(args)


def run(args: argparse.Namespace) -> None:
    """Measure what has not been measured yet."""
    g = open_generator("portraits-64", "cuda" if torch.cuda.is_available() else "cpu")
    target = targets(g, args.images)
    context = Context(g, lambda name: open_encoder(name, generator=g), lanes=args.batch)
    args.results.parent.mkdir(exist_ok=True)
    known = {line["key"] for line in _lines(args.results)}
    done: dict[str, tuple[Code | None, float]] = {digest([]): (None, 0.0)}
    context.encoder("e4e")(target.images[:4])  # warm-up
    for name, raw in candidates():
        cfg = MethodConfig(name=name, summary="", space="w+", stages=raw)  # type: ignore[arg-type]
        stages = [stage.model_dump(mode="json") for stage in cfg.stages]
        key = digest([stages, args.images, g.fingerprint])
        if args.only not in name or key in known:
            continue
        for i, stage in enumerate(cfg.stages):
            prefix = digest(stages[: i + 1])
            if prefix in done:
                continue
            code, before = done[digest(stages[:i])]
            clock = Clock(g)
            result = stage(target, code, context).code
            done[prefix] = result, before + clock.seconds() / len(target)
        code, seconds = done[digest(stages)]
        assert code is not None
        if cfg.stages[-1].kind == "tune":
            del done[digest(stages)]  # weights of many images are large, and nothing starts from them
        mse, distance = errors(g, code, target)
        size = sum(t.numel() for t in _tensors(code)) / len(target)
        line = {"key": key, "name": name, "seconds": seconds, "mse": mse, "distance": distance, "numbers": size}
        with args.results.open("a") as file:
            file.write(json.dumps({**line, "images": args.images, "torch": torch.__version__}) + "\n")
        print(f"{name:32s} {seconds:7.3f} s  mse {mse:.5f}  distance {distance:.5f}", flush=True)


def _tensors(code: Code) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    code.map(lambda t: (found.append(t), t)[1])
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def front(lines: list[dict[str, Any]], quality: str) -> list[dict[str, Any]]:
    """Those that nobody beats in both seconds and ``quality``, from fast to slow."""
    best, out = float("inf"), []
    for line in sorted(lines, key=lambda x: x["seconds"]):
        if line[quality] < best:
            best = line[quality]
            out.append(line)
    return out


def draw(args: argparse.Namespace) -> None:
    """A plot and a table."""
    lines = _lines(args.results)
    best = front(lines, "distance")
    args.to.mkdir(exist_ok=True)
    svg = cost(
        {x["name"]: x["seconds"] for x in best}, {x["name"]: x["distance"] for x in best},
        "Seconds per image against embedded distance", "embedded distance",
    )  # fmt: skip
    (args.to / "pareto.svg").write_text(svg)
    rows = [
        f"| {x['name']} | {x['seconds']:.2f} | {x['mse']:.5f} | {x['distance']:.4f} | {x['numbers']:,.0f} |"
        for x in best
    ]
    head = "| stages | seconds | MSE | distance | numbers |\n|---|---|---|---|---|\n"
    print(head + "\n".join(rows))


if __name__ == "__main__":
    main()
