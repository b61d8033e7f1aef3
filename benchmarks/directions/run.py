"""Directions on the embedded generator: how well they fit, what they change, what they cost.

    python -m benchmarks.directions.run measure --store runs/directions   # all but the time; goes on where it stopped
    python -m benchmarks.directions.run time                              # on a quiet machine: 20,000 samples, five fits
    python -m benchmarks.directions.run write                             # the pages, from the numbers

Each part's numbers are a JSON file under ``benchmarks/results/directions``, and are not measured again while it is there; the
samples, rendered and labelled once, stay in the store. ``write`` makes ``docs/leaderboard/directions.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.directions.channels import CHANNEL, FINE, compare_channels, known
from benchmarks.directions.cost import INLINE, memory, whole_path
from benchmarks.directions.page import write_pages
from benchmarks.directions.pictures import draw_strip
from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.directions.fitting.context import FRESH
from ganinv.directions.measuring.effects import Effects, Start, edited, measure_effects, score_codes
from ganinv.directions.measuring.localise import LocaliseConfig, localise
from ganinv.directions.styles import StyleLayout, styles_of
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.labels import open_labeller
from ganinv.labels.segmenters import open_segmenter
from ganinv.metrics import DciConfig, attribute_dependency, dci
from ganinv.store import open_store
from tasks.engine import open_pools
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.labelled import StoredSamples
from tasks.steps.sample import SampleJob, run_sample

SAMPLES, PSI = 20_000, 0.8
LAYERS = {"glasses": (2, 6)}
TAILS = {"tails": 0.02, "estimator": "svc"}
RIDGE = {"tails": 0.02, "estimator": "ridge"}


def by(method: str, **settings: Any) -> dict[str, Any]:
    """Fields of a fit by one method."""
    return {"methods": [{"method": method, **settings}]}


FITS: dict[str, dict[str, Any]] = {
    "published": by("interfacegan", **TAILS, layers=LAYERS),
    "ridge": by("interfacegan", **RIDGE, layers=LAYERS) | {"prefix": "ridge-"},
    "logistic": by("interfacegan", tails=0.1, estimator="logistic", layers=LAYERS) | {"prefix": "logistic-"},
    "in-z": by("interfacegan", **RIDGE, space="z") | {"prefix": "z-"},
    "gradient": by("classifier-gradient", samples=96) | {"prefix": "gradient-"},
    "channels": {
        **by("stylespace", ranking="gradient", channels=8, response=0.5),
        "attributes": ("glasses", "smile"),
        "prefix": "channel-",
    },
    "few-positives": {
        **by("stylespace", channels=8, response=0.5),
        "attributes": ("glasses", "smile"),
        "prefix": "common-",
    },
    "components": by("ganspace", components=8),
    "factors": by("sefa", components=4),
}
STRENGTHS = (-2.0, -1.0, 1.0, 2.0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["measure", "time", "write"])
    parser.add_argument("--store", default="runs/directions")
    parser.add_argument("--numbers", type=Path, default=Path("benchmarks/results/directions"))
    parser.add_argument("--docs", type=Path, default=Path("docs/leaderboard"))
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--fresh", type=int, default=500)
    parser.add_argument("--localise", type=int, default=16, help="Images for the gradient maps of all channels.")
    parser.add_argument("--candidates", type=int, default=12, help="Channels per attribute that are rendered.")
    parser.add_argument(
        "--compare", type=int, default=64, help="Samples to choose channels on; twice as many judge them."
    )
    parser.add_argument("--slots", type=int, default=2, help="Worker processes that are timed.")
    parser.add_argument("--only", nargs="*", help="Parts to measure, even if their numbers are there.")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if args.action == "write":
        write_pages(args.numbers, args.docs)
    elif args.action == "time":
        sample = {"count": args.samples, "truncation_psi": PSI}
        write_numbers(args.numbers, "time", whole_path(sample, FITS["published"], args.slots))
    else:
        Bench(args).measure()


def write_numbers(folder: Path, part: str, numbers: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}.json").write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n")


def largest(changes: dict[str, float]) -> str:
    """Whose change is the largest, up or down."""
    return max(changes, key=lambda name: abs(changes[name]))


class Bench:
    """The parts of the benchmark, on one store."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.store, self.folder = args, open_store(args.store), args.numbers

    def measure(self) -> None:
        """All parts, or those that are asked for. Numbers of another generator are not kept."""
        described = self.folder / "samples.json"
        if described.is_file() and self.generator.fingerprint[:12] not in described.read_text():
            for path in self.folder.glob("*.json"):
                if path.stem != "time":  # which is of sizes, and not of weights
                    path.unlink()
        with open_pools(INLINE) as pools:
            run_sample(SampleJob(store=self.store.url, count=self.args.samples, truncation_psi=PSI), pools)
        parts: dict[str, Callable[[], Any]] = {f"fit-{name}": partial(self.fit, name) for name in FITS}
        parts |= {
            "samples": self.describe_samples,
            "effects": self.effects,
            "conditions": self.conditions,
            "channels": partial(compare_channels, self),
            "dependency": self.dependency,
            "dci": self.dci,
            "regions": self.regions,
            "memory": memory,
            "strip": self.strip,
        }
        for name, compute in parts.items():
            again = bool(self.args.only) and name in self.args.only
            if again or not (self.args.only or (self.folder / f"{name}.json").is_file()):
                print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
                write_numbers(self.folder, name, compute())

    def numbers(self, part: str) -> Any:
        return json.loads((self.folder / f"{part}.json").read_text())

    def fit(self, name: str) -> dict[str, Any]:
        """Fit; the reports of the directions."""
        # The published fits are calibrated as anybody's are; of the others only a few effects are wanted.
        calibration = {"samples": 48 if name == "published" else 16}
        directions = self.fitted(name, {"calibration": calibration, **FITS[name]})
        return {d.name: {"unit": d.unit, "space": d.space, "meaning": d.positive_means, **d.report} for d in directions}

    def fitted(self, name: str, fields: dict[str, Any]) -> list[Direction]:
        job = FitJob.model_validate({"store": self.store.url, "name": name, **fields})
        with open_pools(INLINE) as pools:
            run_fit(job, pools)
        return self.of(name, job.prefix)

    def of(self, name: str, prefix: str | None = None) -> list[Direction]:
        """The directions of a fit."""
        prefix = FITS[name].get("prefix", "") if prefix is None else prefix
        rows = self.store.collection("fits", name).read().to_pylist()
        return [self.store.directions.get(prefix + r["image_id"], version=r["version"]) for r in rows]

    @cached_property
    def generator(self) -> Any:
        return open_generator("portraits-64")

    @cached_property
    def labeller(self) -> Any:
        return open_labeller("portraits-64")

    @cached_property
    def samples(self) -> StoredSamples:
        return StoredSamples(self.store.samples["samples"])

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        return {
            name: np.concatenate([b.scores for b in self.samples.blocks(name, latents=False)])
            for name in self.samples.attributes
        }

    @cached_property
    def sigma(self) -> dict[str, float]:
        return {name: float(values.std()) for name, values in self.scores.items()}

    @cached_property
    def start(self) -> Start:
        """Samples that nothing was fitted or calibrated on."""
        first = FRESH + 1_000_000
        return Start.of(self.generator, sample_z(0, range(first, first + self.args.fresh), self.generator.z_dim), PSI)

    @cached_property
    def before(self) -> np.ndarray:
        return score_codes(self.generator, self.labeller, Code(w=self.start.w))

    def edit(self, direction: Direction, strengths: tuple[float, ...], which: slice = slice(None)) -> Effects:
        """What it does to some of the fresh samples."""
        start, before = self.start[which], self.before[which]
        return measure_effects(self.generator, self.labeller, direction, start, strengths, self.sigma, before)

    def describe_samples(self) -> dict[str, Any]:
        names = self.samples.attributes
        correlation = np.corrcoef(np.stack([self.scores[name] for name in names]))
        card = self.labeller.provenance
        return {
            "attributes": names,
            "samples": len(self.scores[names[0]]),
            "generator": f"{self.generator.name} ({self.generator.fingerprint[:12]})",
            "labeller": f"{self.labeller.identity} ({card['weights_sha256'][:12]})",
            "correlation": correlation.tolist(),
            "mean": {name: float(v.mean()) for name, v in self.scores.items()},
            "std": self.sigma,
        }

    def effects(self) -> dict[str, Any]:
        """Five strengths on fresh samples, for two estimators."""
        out: dict[str, Any] = {"strengths": [*STRENGTHS[:2], 0.0, *STRENGTHS[2:]], "fresh": len(self.start)}
        for fit, count in (("published", len(self.start)), ("ridge", 200)):
            for direction in self.of(fit):
                attribute = direction.report["attribute"]
                found = self.edit(direction, STRENGTHS, slice(count))
                change = found.change(attribute)
                quantiles = np.quantile(change, [0.1, 0.5, 0.9], axis=1)
                out.setdefault(fit, {})[attribute] = {
                    "monotone": found.monotone(attribute),
                    "mean": np.insert(change.mean(1), 2, 0).tolist(),
                    "quantiles": np.insert(quantiles, 2, 0, axis=1).tolist(),
                    "slope": dict(zip(found.attributes, found.slope().tolist(), strict=True)),
                }
        return out

    def conditions(self) -> dict[str, Any]:
        """Of each direction the largest side effect, per standard deviation of the target: without a condition, and with that
        attribute held still by its boundary and by its gradient."""
        out: dict[str, Any] = {}
        for fit in ("published", "ridge"):
            side_effects = {a: found["slope"] for a, found in self.numbers("effects")[fit].items()}
            held = {a: largest({o: s[o] for o in s if o != a}) for a, s in side_effects.items()}
            found: dict[str, dict[str, Any]] = {a: {"held": o} for a, o in held.items()}
            for way in ("without", "boundary", "gradient"):
                for direction in self.of(fit) if way == "without" else self.held(fit, held, way):
                    attribute = direction.report["attribute"]
                    effects = self.edit(direction, (-1.0, 1.0), slice(128))
                    slope = effects.slope() / effects.slope()[effects.column(attribute)]
                    found[attribute][way] = dict(zip(effects.attributes, slope.tolist(), strict=True))
            out[fit] = found
        return out

    def held(self, fit: str, held: dict[str, str], way: str) -> list[Direction]:
        """The directions of a fit, each with one attribute held still."""
        name = f"held-{way}-{fit}"
        conditions = {attribute: (other,) for attribute, other in held.items()}
        (method,) = FITS[fit]["methods"]
        methods = [{**method, "conditions": conditions, "conditions_by": way}]
        return self.fitted(name, {"methods": methods, "prefix": f"{name}-", "calibration": {"samples": 0}})

    def dependency(self) -> dict[str, Any]:
        """Attribute Dependency of each method's direction, both ways, at equal change of the target."""
        out: dict[str, Any] = {}
        for fit in ("published", "ridge", "logistic", "in-z", "gradient", "channels", "few-positives"):
            for direction in self.of(fit):
                attribute = direction.report["attribute"]
                if attribute not in ("glasses", "smile") and fit not in ("published", "ridge", "gradient"):
                    continue
                grid = CHANNEL if direction.space == "s" else FINE
                for sign in (1, -1):
                    found = self.edit(direction, tuple(sign * s for s in grid), slice(64))
                    rows = (found.before, found.after, found.sigma, found.attributes, attribute)
                    curve = attribute_dependency(*rows)
                    named = {"layer": direction.report.get("layer"), "channel": direction.report.get("channel")}
                    out.setdefault(attribute, {}).setdefault("add" if sign > 0 else "remove", {})[fit] = {
                        "change": curve.change.tolist(),
                        "mean_ad": curve.mean_ad.tolist(),
                        "max_ad": curve.max_ad.tolist(),
                        "at": {str(x): [known(value) for value in curve.at(x)] for x in (0.25, 0.5, 1.0)},
                        **{key: value for key, value in named.items() if value is not None},
                    }
        return out

    def dci(self) -> dict[str, Any]:
        """DCI of Z, W and S; codes are not truncated, their scores are of truncated renderings."""
        w = np.concatenate([b.latents for b in self.samples.blocks(self.samples.attributes[0], latents=True)])
        z = sample_z(0, range(len(w)), self.generator.z_dim).numpy()
        rows = [self.w_rows(part) for part in np.array_split(w, 40)]
        s = np.concatenate([styles_of(self.generator, part).numpy() for part in rows])
        out = {}
        # Scores are cut at their medians: few samples wear glasses, and fewer than 5 % on one side would leave it out.
        scores = {name: values - np.median(values) for name, values in self.scores.items()}
        for space, codes in (("Z", z), ("W", w), ("S", s)):
            found = dci(codes, scores, DciConfig(tails=0.02))
            out[space] = {
                "dimensions": codes.shape[1],
                "disentanglement": found.disentanglement,
                "completeness": found.completeness,
                "informativeness": found.informativeness,
                "accuracy": dict(zip(found.attributes, found.accuracy.tolist(), strict=True)),
            }
        return out

    def w_rows(self, w: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(w)[:, None].expand(-1, self.generator.num_ws, -1)

    def regions(self) -> dict[str, Any]:
        """Locally active channels, by the template of the aligned face."""
        cpu = time.process_time()
        layout, config = StyleLayout.of(self.generator), LocaliseConfig(images=self.args.localise)
        votes = localise(self.generator, self.start.w[: config.images], open_segmenter("aligned-face"), config)
        local = votes.select(layout, config.least, config.margin)
        counts = {region: sum(c.region == region for c in local) for region in votes.regions}
        examples = {
            region: [[c.layer, c.channel, round(c.rate, 2)] for c in local if c.region == region][:3]
            for region in votes.regions
        }
        return {
            "images": config.images,
            "channels": int(layout.convolutions.sum()),
            "local": counts,
            "examples": examples,
            "cpu_seconds": time.process_time() - cpu,
        }

    def strip(self) -> dict[str, Any]:
        """A picture: each published direction at five strengths, on two fresh samples; and the channels beside them."""
        shown = [(d, STRENGTHS) for d in self.of("published")]
        shown += [(d, (-20.0, -10.0, 10.0, 20.0)) for d in self.of("channels")]
        start, rows = self.start[:2], []
        for direction, strengths in shown:
            codes = [edited(self.generator, direction, start, s) for s in strengths]
            codes.insert(2, Code(w=start.w))
            rows.append((direction.name, torch.stack([self.generator.render(code) for code in codes], 1)))
        draw_strip(rows, self.args.docs / "pictures" / "directions-strip.jpg")
        return {"rows": [name for name, _ in rows]}


if __name__ == "__main__":
    main()
