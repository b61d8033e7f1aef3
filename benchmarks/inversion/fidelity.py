"""The trained methods side by side: how close they come, how much of an edit acts, and both beside e4e.

    python -m benchmarks.inversion.fidelity run --store runs/mine --images 156    # every method whose encoder is there
    python -m benchmarks.inversion.fidelity table

Three sets: samples of the generator that nobody trained on, portraits of the training split, portraits of the test split. W+
encoders differ little on the last one, as the generator itself was made to decode faces: read orderings on the first two.

"Edits, %" needs no labels. Samples are inverted, and their codes edited by steps W + a (W_r - W) / 10 towards random latents W_r
(StyleRes, Pehlivan et al. 2023, section 3.3), through the method's own rule of editing. It is the length of what the edit
changed, in the features of the embedded distance, along what it changes in the sample itself, in per cent of that. "Held" is the
same where the latent moves and what the method put beside it (features, weights) stays as it was stored.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.pages import write_part
from ganinv.codes.code import Code
from ganinv.data import open_dataset
from ganinv.errors import WeightsRefused
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.leaderboard.board import published
from ganinv.losses.distance import open_distance
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter
from ganinv.stages.encode import Encode
from ganinv.stages.method import Method, open_method
from ganinv.stages.method import method_config as read_method
from ganinv.store import open_store
from ganinv.target import Target

METHODS = (
    "w-encoder", "e4e", "psp", "lsap", "in-domain-encoder", "restyle", "restyle-e4e", "interestyle", "e2style",
    "style-transformer", "uda", "padinv", "hyperstyle", "hfgi", "sam-encoder", "sam", "sfe", "sfe-editor", "sfe-refined", "pti",
)  # fmt: skip
RESULTS = Path(__file__).parents[1] / "results" / "fidelity.jsonl"
PORTRAITS = "data/official-portraits/portraits.parquet"
PASSES = 5
STEP = 4.5  # a: StyleRes draws it from 4 to 5
HEAD = """## Numbers

Made by `benchmarks/inversion/fidelity.py`, with {images} images of each set: samples of the generator, portraits of the
training split ("train") and portraits of the test split ("test").

- **of e4e's**: the error on samples as a ratio to e4e's; **literature**: that ratio in papers, for other networks and images.
- **distance**: the embedded one.
- **edits, %**: the codes of samples are edited by random steps in W, through the method's own rule of editing. This is how
  much of the change of the sample itself, in the features of the embedded distance, the edited inversion makes. **held, %**:
  the same if only the latent moves, and features and weights stay as they were stored.

| method | MSE, samples | of e4e's | literature | MSE, train | MSE, test | distance, test | edits, % | held, % | s per image |
|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("--store", default="", help="where encoders were trained; those that ship need none")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--only", nargs="+", default=list(METHODS))
    parser.add_argument("--samples", action="store_true", help="no portraits")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--to", type=Path)
    args = parser.parse_args()
    if args.action == "run":
        run(args)
    else:
        text = table([json.loads(line) for line in args.results.read_text().splitlines()])
        if args.to:
            write_part(args.to, "fidelity", text)
        print(text)


def run(args: argparse.Namespace) -> None:
    """One line for each method; those that are not trained are named and left out."""
    g = open_generator("portraits-64")
    sets, w = targets(g, args.images, args.samples)
    store = open_store(args.store) if args.store else None
    args.results.parent.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        opened: dict[str, Inverter] = {}

        def at_hand(uri: str, opened: dict[str, Inverter] = opened) -> Inverter:
            opened[uri] = open_inverter(uri, generator=g, store=store)
            return opened[uri]

        method = open_method(read_method(name), g, open_inverter=at_hand)
        try:
            line = {"method": name, "images": args.images, **measured(method, opened, sets, w)}
        except WeightsRefused as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
            continue
        with args.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line))


def targets(g: Generator, count: int, samples_alone: bool) -> tuple[dict[str, Target], Tensor]:
    """The sets by name, and the latents of the samples [N, num_ws, w_dim]."""
    rng = torch.Generator().manual_seed(4242)
    w = g.map(torch.randn(count, g.z_dim, generator=rng), truncation_psi=0.9)
    sets = {"samples": Target(g.render(Code(w=w)).clamp(-1, 1))}
    file = Path(os.environ.get("GANINV_SHARED", "../shared")) / PORTRAITS
    for split in () if samples_alone else ("train", "test"):
        data = open_dataset(str(file), where={"split": split}, limit=count)
        loaded = data.load(data.ids, g.resolution)
        sets[split] = Target(loaded.images, loaded.ids)
    return sets, w


@torch.no_grad()
def measured(method: Method, opened: Mapping[str, Inverter], sets: Mapping[str, Target], w: Tensor) -> dict[str, Any]:
    """Errors on each set, seconds, the share of edits that acts, and of one that refines the error of each pass."""
    g = method.context.generator
    out: dict[str, Any] = {}
    for name, target in sets.items():
        began = time.process_time()
        with torch.enable_grad():
            inversion = method.invert(target)
        out[f"seconds_{name}"] = (time.process_time() - began) / len(target)
        out[f"mse_{name}"] = sum(inversion.metrics["mse"]) / len(target)
        out[f"distance_{name}"] = sum(inversion.metrics["distance"]) / len(target)
        if name == "samples":
            led = [stage.encoder for stage in method.cfg.stages if isinstance(stage, Encode)]
            rule = opened.get(led[-1]) if led else None
            out["edits"], held = acting(g, inversion.code, rule, target.images, w)
            out |= {} if inversion.code.plain else {"edits_held": held}
            passes = errors_of_passes(g, rule, target.images) if rule is not None and method.cfg.single_pass else []
            out |= {"passes": passes} if len(passes) > 1 else {}
    return out


def acting(g: Generator, code: Code, rule: Inverter | None, images: Tensor, w: Tensor) -> tuple[float, float]:
    """The share of random edits that acts on inversions of samples whose latents are w; and the share without the rule."""
    distance = open_distance("embedded", g)
    rng = torch.Generator().manual_seed(11)
    step = STEP / 10 * (g.map(torch.randn(len(w), g.z_dim, generator=rng)) - w)
    acts, held = [], []
    for k in range(0, len(w), 16):
        part, some, photos = slice(k, k + 16), code[list(range(k, min(k + 16, len(w))))], images[k : k + 16]
        moved = some.with_w(some.w + step[part])
        edited = moved if rule is None else rule.after_edit(photos, some, moved)

        def change(before: Code, after: Code) -> list[Tensor]:
            return [b - a for a, b in zip(*(distance.features(g.synthesize(c)) for c in (before, after)), strict=True)]

        true = change(Code(w=w[part]), Code(w=w[part] + step[part]))
        acts.append(share_along(change(some, edited), true))
        held.append(share_along(change(some, moved), true))
    return float(torch.cat(acts).mean()), float(torch.cat(held).mean())


def share_along(found: list[Tensor], true: list[Tensor]) -> Tensor:
    """[B], the length of one change of features along another, as a share of the other's."""
    along = torch.stack([(t * f).flatten(1).sum(1) for t, f in zip(true, found, strict=True)]).sum(0)
    return along / torch.stack([t.square().flatten(1).sum(1) for t in true]).sum(0)


def errors_of_passes(g: Generator, inverter: Inverter, images: Tensor) -> list[float]:
    """Mean squared error after each pass; of one that makes several, after ``PASSES``, however many it ships with."""
    several = PASSES if getattr(inverter.cfg, "steps", 1) > 1 else None
    sums: list[float] = []
    for k in range(0, len(images), 16):
        for number, code in enumerate(inverter.refine(images[k : k + 16], steps=several)):
            error = float((g.synthesize(code) - images[k : k + 16]).square().mean()) * len(code) / len(images)
            sums[number : number + 1] = [sums[number] + error] if number < len(sums) else [error]
    return sums


def table(lines: list[dict[str, Any]]) -> str:
    """The table of the newest line of each method."""
    newest = {line["method"]: line for line in lines}
    reference = newest.get("e4e", {}).get("mse_samples")
    rows = []
    for name in [m for m in METHODS if m in newest]:
        line = newest[name]
        ratio = f"{line['mse_samples'] / reference:.2f}" if reference else ""
        known = published().get(name, {}).get("ratio", "")
        cells = [
            name,
            f"{line['mse_samples']:.5f}",
            ratio,
            known,
            *(number(line, k) for k in ("mse_train", "mse_test")),
        ]
        cells += [number(line, "distance_test"), f"{100 * line['edits']:.0f}"]
        cells += [f"{100 * line['edits_held']:.0f}" if "edits_held" in line else "", f"{line['seconds_samples']:.2f}"]
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    passes = [
        f"`{name}` after each pass, on samples: {', '.join(f'{error:.5f}' for error in line['passes'])}."
        for name, line in newest.items()
        if "passes" in line
    ]
    images = max(line["images"] for line in newest.values())
    return HEAD.format(images=images) + "\n".join([*rows, "", *passes]) + "\n"


def number(line: Mapping[str, Any], key: str) -> str:
    return f"{line[key]:.5f}" if key in line else ""


if __name__ == "__main__":
    main()
