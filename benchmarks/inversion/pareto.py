"""Which mixture of start, optimisation and tuning gives the most for its seconds: the search that the defaults come from.

    python -m benchmarks.inversion.pareto run                     every candidate on test portraits; resumes; a line of JSON each
    python -m benchmarks.inversion.pareto draw --to docs/leaderboard       pareto.svg and pareto.md from these lines

A candidate is a list of stages as in a method's YAML. Stages that several candidates begin with are run once. Seconds are
processor seconds per image (all threads) on a CPU, wall-clock seconds with a GPU: read them as ratios.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from benchmarks.inversion.per_image import EDIT_SAMPLES, Clock, edit_directions, errors, response, targets
from ganinv.codes.code import Code
from ganinv.config import digest
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.methods.files import open_inverter
from ganinv.stages.base import Context
from ganinv.stages.method import AnyStage, MethodConfig
from ganinv.target import Target

RESULTS = Path(__file__).parent / "results" / "pareto.jsonl"
FAMILIES = {
    "features": "features last", "muon": "low rank, Muon", "dense": "dense, Adam", "styles": "styles, Adam",
    "adam": "low rank, Adam", "": "latent alone",
}  # fmt: skip
HEAD = """# Seconds against quality

Made by `python -m benchmarks.inversion.pareto run` and `draw`, on {images} test portraits. Each row is a list of stages, as
in the YAML file of a method: where the latent comes from (`e4e`; `w60` is 60 steps in W), then what is optimised or tuned,
and for how many steps.

- **seconds**: processor seconds per image. Compare them with each other only.
- **attributes**: how far the attribute scores of the rendering are from those of the photo, as mean over attributes and
  images, in standard deviations of the photos' scores. The attribute network is in no loss. It stands in for an identity
  network, which has no free weights at this size.
- **score**: how far edits by -2 to 2 move the scores of glasses / smile / gender; **edits**: the same in per cent of what
  these edits do on the untuned generator at the same latent.
- **front**: the measures in which nothing faster is better.

![](pareto.svg)

| stages | seconds | MSE | distance | attributes | edits, % | score | numbers stored | front |
|---|---|---|---|---|---|---|---|---|
"""
LOSS = {"distance": "embedded", "distance_weight": 1.0, "mse_weight": 1.0}


def candidates() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(name, stages) of all mixtures."""
    encode: dict[str, Any] = {"kind": "encode", "encoder": "e4e"}

    def optimize(space: str | None, steps: int, lr: float, start: str = "code", **more: Any) -> dict[str, Any]:
        settings = {"latent_noise": 0.0 if start == "code" else 0.05, "loss": LOSS, **more}
        return {"kind": "optimize", "space": space, "start": start, "steps": steps, "lr": lr, **settings}

    def tune(steps: int, lr: float, **more: Any) -> dict[str, Any]:
        return {"kind": "tune", "steps": steps, "lr": lr, "lr_rampdown": 0.5, "loss": LOSS, **more}

    def muon(rank: int, steps: int, lr: float, **more: Any) -> dict[str, Any]:
        return tune(steps, lr, form="low-rank", rank=rank, optimizer="muon", **more)

    starts = {
        "w20": [optimize("w", 20, 0.2, "mean")],
        "w60": [optimize("w", 60, 0.15, "mean")],
        "e4e": [encode],
        "e4e w+30": [encode, optimize("w+", 30, 0.05)],
    }
    tunings: dict[str, dict[str, Any]] = {
        **{f"dense adam x {n}": tune(n, 3e-3, form="dense") for n in (20, 60)},
        "styles adam x 40": tune(40, 0.02, form="styles"),
        "rank 8 adam x 40": tune(40, 1e-2, form="low-rank", rank=8),
        **{f"rank {r} muon x {n}": muon(r, n, 0.018) for r, n in itertools.product((4, 8), (20, 40))},
        "rank 6 muon x 40": muon(6, 40, 0.018),
    }
    # What else may be turned, from the two plain starts.
    everywhere = ("convs.*.weight", "convs.*.bias", "torgbs.*.weight", "torgbs.*.bias")
    narrow: dict[str, dict[str, Any]] = {
        "dense adam at half rate x 60": tune(60, 1.5e-3, form="dense"),
        **{f"rank {r} muon x 40": muon(r, 40, 0.018) for r in (2, 16)},
        **{f"rank 6 muon at {lr:g} x 40": muon(6, 40, lr) for lr in (0.01, 0.03)},
        "rank 6 muon without affine x 40": muon(6, 40, 0.018, layers=everywhere),
        "rank 6 muon from 16 pixels x 40": muon(6, 40, 0.018, layers=("convs.[3-9].*", "torgbs.[2-9].*")),
        "rank 6 muon up to 16 pixels x 40": muon(6, 40, 0.018, layers=("convs.[0-4].*", "torgbs.[0-2].*")),
    }
    local = {"mse_weight": 0.1, "distance_weight": 0.1, "alpha": 10.0}
    narrow["rank 6 muon locality x 40"] = muon(6, 40, 0.018, locality=local)
    for start, stages in starts.items():
        yield start, stages
        for name, stage in (tunings | narrow if start in ("w60", "e4e") else tunings).items():
            yield f"{start}, {name}", [*stages, stage]
    refined = starts["e4e w+30"]
    features = [optimize(None, 40, 0.01, features=[{"site": "act[6]"}])]
    yield "w100", [optimize("w", 100, 0.1, "mean")]
    yield "w+150", [optimize("w+", 150, 0.05, "mean", latent_noise=0.0)]
    yield "w+ lbfgs 60", [optimize("w+", 60, 1.0, "mean", latent_noise=0.0, optimizer="lbfgs")]
    yield "e4e w+100", [encode, optimize("w+", 100, 0.05)]
    yield "e4e w+30, features x 40", [*refined, *features]
    # DHR (of GANInverter): 50 steps on the weights at its rate, 100 on features.
    dhr = optimize(None, 100, 0.09, features=[{"site": "act[6]"}])
    yield "e4e, dense adam x 50, features x 100 (DHR)", [encode, {**tune(50, 1.5e-3), "lr_rampdown": 0.0}, dhr]
    yield "e4e w+30, rank 6 muon x 20, features x 40", [*refined, muon(6, 20, 0.018), *features]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "draw"])
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--samples", type=int, default=EDIT_SAMPLES, help="that the judges' edit directions are fitted on"
    )
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
    known = {line["key"] for line in _lines(args.results)}
    todo: list[tuple[str, MethodConfig]] = []
    for name, dicts in candidates():
        cfg = MethodConfig(name=name, summary="", space="w+", stages=dicts)  # type: ignore[arg-type]
        measured = [args.images, g.fingerprint]
        if args.samples != EDIT_SAMPLES:  # lines of old runs do not name it
            measured.append(args.samples)
        key = digest([[s.model_dump(mode="json") for s in cfg.stages], *measured])
        if args.only in name and key not in known:
            todo.append((key, cfg))
    if not todo:
        return
    target = targets(g, args.images)
    context = Context(g, lambda name: open_inverter(name, generator=g), lanes=args.batch)
    context.inverter("e4e")(target.images[:4])  # warm-up
    judge = Judge(g, target, args.samples)
    args.results.parent.mkdir(exist_ok=True)
    done: dict[str, tuple[Code | None, float]] = {_digest([]): (None, 0.0)}
    for key, cfg in todo:
        stages = list(cfg.stages)
        for i, stage in enumerate(stages):
            prefix = _digest(stages[: i + 1])
            if prefix not in done:
                code, before = done[_digest(stages[:i])]
                clock = Clock(g)
                result = stage(target, code, context).code
                done[prefix] = result, before + clock.seconds() / len(target)
        code, seconds = done[_digest(stages)]
        assert code is not None
        if stages[-1].kind == "tune":
            del done[_digest(stages)]  # weights of many images are large, and hardly anything starts from them
        line = {"key": key, "name": cfg.name, "seconds": seconds, **judge(code), "images": args.images}
        with args.results.open("a") as file:
            file.write(json.dumps({**line, "torch": torch.__version__}) + "\n")
        print(f"{cfg.name:46s}{seconds:7.3f} s  {words(line)}", flush=True)


def _digest(stages: Sequence[AnyStage]) -> str:
    return digest([stage.model_dump(mode="json") for stage in stages])


class Judge:
    """What a candidate's codes are worth."""

    def __init__(self, g: Generator, target: Target, samples: int) -> None:
        self.g, self.target = g, target
        self.labeller, self.directions = open_labeller("portraits-64"), edit_directions(g, samples)
        self.wanted = {name: torch.as_tensor(v) for name, v in self.labeller.score(target.images).items()}

    @torch.no_grad()
    def __call__(self, code: Code) -> dict[str, Any]:
        mse, distance = errors(self.g, code, self.target)
        got = self.labeller.score(self.g.render(code).clamp(-1, 1))
        off = [float((torch.as_tensor(got[a]) - v).abs().mean() / v.std()) for a, v in self.wanted.items()]
        moved, plain = (
            {d: response(self.g, self.labeller, c, direction) for d, direction in self.directions.items()}
            for c in (code, Code(w=code.w))
        )
        return {
            "mse": mse,
            "distance": distance,
            "attributes": sum(off) / len(off),
            "edits": {d: moved[d] / plain[d] for d in moved},
            "response": moved,
            "numbers": sum(t.numel() for t in _tensors(code)) / len(self.target),
        }


def _tensors(code: Code) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    code.map(keep)
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


def words(line: dict[str, Any]) -> str:
    edits = " / ".join(f"{v:.0%}" for v in line["edits"].values())
    return f"mse {line['mse']:.5f}  distance {line['distance']:.5f}  attributes {line['attributes']:.3f}  edits {edits}"


def draw(args: argparse.Namespace) -> None:
    """``pareto.svg`` and ``pareto.md``: all candidates as dots, the fronts as lines."""
    lines = _lines(args.results)
    args.to.mkdir(exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6))
    for axes, quality, unit in (
        (left, "distance", "embedded distance"),
        (right, "attributes", "attribute scores off, in standard deviations"),
    ):
        best = front(lines, quality)
        axes.step([x["seconds"] for x in best], [x[quality] for x in best], where="post", color="0.6", zorder=1)
        for family in FAMILIES:
            own = [x for x in lines if family_of(x["name"]) == family]
            axes.scatter([x["seconds"] for x in own], [x[quality] for x in own], s=20, label=FAMILIES[family])
        for x in best:
            axes.annotate(
                x["name"], (x["seconds"], x[quality]), (-4, -8), textcoords="offset points", fontsize=6, ha="right"
            )
        axes.set_xlim(left=0.35)  # the encoder alone takes a fortieth of that
        axes.set(xscale="log", yscale="log", xlabel="processor seconds per image", ylabel=unit)
        axes.grid(visible=True, which="both", alpha=0.2)
    right.legend(frameon=False, fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(args.to / "pareto.svg", metadata={"Date": None})
    by_quality = {q: {x["key"] for x in front(lines, q)} for q in ("distance", "attributes")}
    rows = [
        f"| {x['name']} | {x['seconds']:.2f} | {x['mse']:.4f} | {x['distance']:.4f} | {x['attributes']:.3f} | "
        + " / ".join(f"{100 * v:.0f}" for v in x["edits"].values())
        + " | "
        + " / ".join(f"{v:.1f}" for v in response_of(x, lines).values())
        + f" | {x['numbers']:,.0f} | {' '.join(q for q, keys in by_quality.items() if x['key'] in keys)} |"
        for x in sorted(lines, key=lambda x: x["seconds"])
    ]
    (args.to / "pareto.md").write_text(HEAD.format(images=lines[0]["images"]) + "\n".join(rows) + "\n")


def response_of(line: dict[str, Any], lines: list[dict[str, Any]]) -> dict[str, float]:
    """How far the scores go, absolutely: of older lines, by way of the latent that they start from."""
    if "response" in line:
        return dict(line["response"])
    first = line["name"].split(",")[0]
    start: dict[str, float] = next((x["response"] for x in lines if x["name"] == first and "response" in x), {})
    return {d: share * start[d] for d, share in line["edits"].items() if d in start}


def family_of(name: str) -> str:
    """Which colour a candidate has."""
    return next(family for family in FAMILIES if family in name)


if __name__ == "__main__":
    main()
