"""What edits do, by judges that no direction was fitted with, beside the product's own scores.

    python -m benchmarks.directions.judged --store runs/judged --to docs/judged.md --strip runs/judged/strip.png
    python -m benchmarks.directions.judged --store runs/portraits --latents pti --limit 48 --to docs/judged.md

Directions of the store (fitted on 3,000 samples where it has none) move fresh samples, or a stored collection of inversions,
each by several strengths. For each the Markdown table says what the product's labeller sees, in standard deviations of its
score; and what others see: glasses on how many who wore none (and off how many who did), how far the nose turned, how wide the
mouth is, how open the eyes, brightness and detail (a white haze: up and down), and how many are still the same person.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.directions.pictures import draw_strip
from benchmarks.pages import write_part
from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.editing.edit import Edit
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.judges import SAME_PERSON, Judged, Panel, identity_distance
from ganinv.labels import Labeller, open_labeller
from ganinv.records import CodeReader
from ganinv.store import Store, open_store

ATTRIBUTES = ("glasses", "smile", "age", "gender", "yaw")
STRENGTHS = (-2.0, -1.0, 1.0, 2.0, 4.0)
PSI, SEED, FIT_SAMPLES = 0.8, 30_000, 3_000
SHOWN = ("yaw", "mouth_width", "smile", "eye_opening", "brightness", "contrast", "detail", "saturation")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, help="with the directions, and the inversions")
    parser.add_argument("--generator", default="portraits-64")
    parser.add_argument("--labeller", default="portraits-64")
    parser.add_argument("--latents", help="edit this collection of inversions instead of fresh samples")
    parser.add_argument("--limit", type=int, default=48, help="how many samples or inversions")
    parser.add_argument("--directions", nargs="+", default=list(ATTRIBUTES))
    parser.add_argument("--strengths", type=float, nargs="+", default=list(STRENGTHS))
    parser.add_argument("--to", type=Path, help="page of Markdown: its part of this name is replaced")
    parser.add_argument("--strip", type=Path, help="picture of the first samples, edited")
    args = parser.parse_args()
    g, labeller, panel = open_generator(args.generator), open_labeller(args.labeller), Panel()
    store = open_store(args.store)
    directions = found_directions(store, g, args.generator, args.labeller, args.directions)
    code, what = start(store, g, args.latents, args.limit)
    text = judge_edits(g, labeller, panel, code, directions, args.strengths, what)
    print(text)
    if args.to:
        write_part(args.to, f"judged {args.latents or 'samples'}", text)
    if args.strip:
        few = code[:8]
        rows = [(name, torch.stack([edited(g, few, d, s) for s in (0.0, *args.strengths)], 1))
                for name, d in directions.items()]  # fmt: skip
        draw_strip(rows, args.strip)


def found_directions(store: Store, g: Generator, uri: str, labeller: str, names: Sequence[str]) -> dict[str, Direction]:
    """Directions of the store, fitted there first where one is missing."""
    known = {entry["name"] for entry in store.directions.list()}
    if not set(names) <= known:
        fit(store, uri, labeller)
    return {name: store.directions.get(name, generator=g.fingerprint) for name in names}


def fit(store: Store, generator: str, labeller: str) -> None:
    """As the demo fits them."""
    from benchmarks.directions.cost import INLINE
    from tasks.engine import open_pools
    from tasks.steps.fit import FitJob, run_fit
    from tasks.steps.sample import SampleJob, run_sample

    method = {"method": "interfacegan", "tails": 0.02, "estimator": "svc", "layers": {"glasses": (2, 6)}}
    with open_pools(INLINE) as pools:
        samples = {"count": FIT_SAMPLES, "truncation_psi": PSI, "generator": generator, "labeller": labeller}
        run_sample(SampleJob.model_validate({"store": store.url, **samples}), pools)
        run_fit(FitJob.model_validate({"store": store.url, "methods": [method], "labeller": labeller}), pools)


def start(store: Store, g: Generator, latents: str | None, limit: int) -> tuple[Code, str]:
    """(what is edited, in words)."""
    if latents is None:
        w = g.map(sample_z(SEED, range(limit), g.z_dim).to(g.device), truncation_psi=PSI)
        return Code(w=w), f"{limit} fresh samples at psi {PSI}"
    table = store.latents[latents].read()
    table = table.slice(0, min(limit, table.num_rows))
    return CodeReader(store, store.latents[latents], g).codes(table), f"{table.num_rows} inversions by `{latents}`"


def edited(g: Generator, code: Code, direction: Direction, strength: float) -> Tensor:
    """Pictures after an edit [N, 3, R, R]."""
    if strength == 0:
        return g.render(code, 8)
    change = Edit({direction.name: strength}).apply(code, {direction.name: direction}, g.fingerprint, generator=g)
    return g.render(change, 8)


def judge_edits(
    g: Generator,
    labeller: Labeller,
    panel: Panel,
    code: Code,
    directions: dict[str, Direction],
    strengths: Sequence[float],
    what: str,
) -> str:
    """The tables, one for each direction."""
    images = g.render(code, 8)
    before, own_before = panel.judge(images), labeller(images)
    sigma = {name: float(values.std()) for name, values in own_before.items()}
    wears = np.nan_to_num(before.measures["glasses"]) > 0.5
    lines = [
        f"## Edits of {what}, judged",
        "",
        f"Generator `{g.name}` ({g.fingerprint[:12]}), labeller `{labeller.identity}` "
        f"({labeller.weights_sha256[:12]}). Judges: {'; '.join(map(str, panel.judges))}. Before any edit a face is found in "
        f"{before.found.mean():.0%}, and {wears.sum()} of {len(code)} wear glasses.",
        "",
        "`own`: mean change of the product's own score, in standard deviations over these images. All else is of judges: "
        "`on`: glasses appear, of those who wore none; `off`: they vanish, of those who wore some; then means of changes, yaw, "
        "mouth and smile in units of the distance between the eyes, brightness, contrast, detail and saturation in per cent "
        "of what they were; `apart`: median distance of dlib's descriptors to the unedited face; `same`: how many are nearer "
        f"than {SAME_PERSON}.",
    ]
    head = ["strength", "own", "on", "off", *SHOWN, "face found", "apart", "same"]
    for name, direction in directions.items():
        lines += ["", f"### {name}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for strength in strengths:
            images = edited(g, code, direction, strength)
            own = (
                (labeller(images)[name] - own_before[name]).mean() / sigma[name] if name in own_before else float("nan")
            )
            lines.append(row(strength, float(own), before, panel.judge(images), wears))
    return "\n".join(lines) + "\n"


def row(strength: float, own: float, before: Judged, after: Judged, wears: np.ndarray) -> str:
    """One strength."""
    now = np.nan_to_num(after.measures["glasses"]) > 0.5
    apart = identity_distance(after.descriptors, before.descriptors)
    cells: list[Any] = [
        f"{strength:+g}",
        f"{own:+z.2f}",
        share(now & ~wears, ~wears),
        share(~now & wears & after.found, wears),
    ]
    for name in SHOWN:
        change = after.measures[name] - before.measures[name]
        relative = name in ("brightness", "contrast", "detail", "saturation")
        mean = np.nanmean(change / before.measures[name] if relative else change)
        cells.append(f"{mean:+z.0%}" if relative else f"{mean:+z.3f}")
    both = before.found & after.found
    # A face that is not found any more is not the same person.
    cells += [f"{after.found.mean():.0%}", f"{np.median(apart[both]):.2f}", share(apart < SAME_PERSON, before.found)]
    return "| " + " | ".join(cells) + " |"


def share(which: np.ndarray, among: np.ndarray) -> str:
    """``12 of 40``."""
    return f"{int(which.sum())} of {int(among.sum())}"


if __name__ == "__main__":
    main()
