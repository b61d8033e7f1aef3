"""Directions on the embedded generator: how well they fit, what they change, what they cost. Makes docs/directions.md.

    python -m benchmarks.directions time --store runs/directions      # on a quiet machine: 20,000 samples, five fits
    python -m benchmarks.directions measure --store runs/directions   # everything else; goes on where it stopped
    python -m benchmarks.directions write --store runs/directions --to docs/directions.md

``measure`` keeps each part's numbers in ``<store>/bench/<part>.json`` and does not compute them again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.directions_page import write_page
from ganinv.code import Code
from ganinv.directions import Direction
from ganinv.directions.effects import Effects, Start, measure_effects, score_codes
from ganinv.directions.localise import LocaliseConfig, localise
from ganinv.directions.screening import screen_channels
from ganinv.directions.streams import stream_w
from ganinv.directions.styles import StyleLayout, StyleStatistics, style_statistics, styles_of
from ganinv.directions.stylespace import channel_direction
from ganinv.errors import ConfigError
from ganinv.generators.files import open_generator
from ganinv.labels import open_labeller
from ganinv.labels.segments import open_segmenter
from ganinv.metrics import DciConfig, attribute_dependency, dci
from ganinv.sampling import sample_z
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.fit import FitJob, run_fit
from tasks.fit_context import FRESH
from tasks.labelled import StoredSamples
from tasks.sample import SampleJob, run_sample

SAMPLES, PSI = 20_000, 0.8
LAYERS = {"glasses": (0, 4)}
PUBLISHED = {"tails": 0.02, "estimator": "svc"}
CONDITIONS = {"gender": ("glasses",), "age": ("glasses",)}
FITS: dict[str, dict[str, Any]] = {
    "published": {"interfacegan": PUBLISHED, "layers": LAYERS},
    "ridge": {"interfacegan": {"tails": 0.02, "estimator": "ridge"}, "layers": LAYERS, "prefix": "ridge-"},
    "logistic": {"interfacegan": {"tails": 0.1, "estimator": "logistic"}, "layers": LAYERS, "prefix": "logistic-"},
    "in-z": {"interfacegan": {"tails": 0.02, "estimator": "ridge"}, "space": "z", "prefix": "z-"},
    "held": {
        "interfacegan": PUBLISHED,
        "layers": LAYERS,
        "conditions": CONDITIONS,
        "attributes": tuple(CONDITIONS),
        "prefix": "held-",
    },
    "held-ridge": {
        "interfacegan": {"tails": 0.02, "estimator": "ridge"},
        "layers": LAYERS,
        "conditions": CONDITIONS,
        "attributes": tuple(CONDITIONS),
        "prefix": "held-ridge-",
    },
    "gradient": {"method": "classifier-gradient", "gradient": {"samples": 96}, "prefix": "gradient-"},
    "channels": {
        "method": "stylespace",
        "stylespace": {"ranking": "gradient", "channels": 8, "response": 0.5},
        "attributes": ("glasses", "smile"),
        "prefix": "channel-",
    },
    "few-positives": {
        "method": "stylespace",
        "stylespace": {"channels": 8, "response": 0.5},
        "attributes": ("glasses", "smile"),
        "prefix": "common-",
    },
    "components": {"method": "ganspace", "components": 8},
    "factors": {"method": "sefa", "sefa": {"components": 4}},
}
INLINE = Engine(kind="inline", quiet=True)
STRENGTHS = (-2.0, -1.0, 1.0, 2.0)
FINE = (0.25, 0.5, 1.0, 2.0, 3.0)
CHANNEL = (2.5, 5.0, 10.0, 20.0)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["time", "measure", "write", "memory"])
    parser.add_argument("--store", required=True)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--fresh", type=int, default=500)
    parser.add_argument("--localise", type=int, default=16, help="Images for the gradient maps of all channels.")
    parser.add_argument("--calibration", type=int, default=48, help="Samples that calibrate the published fits.")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--to", type=Path, default=Path("docs/directions.md"))
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    bench = Bench(args)
    if args.action == "time":
        bench.part("time", bench.time)
    elif args.action == "memory":  # a process of its own, for its peak
        print(bench.peak())
    elif args.action == "measure":
        bench.measure()
    else:
        write_page(bench.folder, args.to)


class Bench:
    """The parts of the benchmark, on one store."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.store = args, open_store(args.store)
        self.folder = Path(args.store) / "bench"
        self.folder.mkdir(parents=True, exist_ok=True)

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        """The numbers of a part, computed unless they are there."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
            path.write_text(json.dumps(compute(), indent=1))
        return json.loads(path.read_text())

    def measure(self) -> None:
        """All parts but the timing."""
        self.sample()
        for name in FITS:
            self.part(f"fit-{name}", partial(self.fit, name))
        for name, compute in {
            "samples": self.describe_samples,
            "effects": self.effects,
            "conditions": self.conditions,
            "dependency": self.dependency,
            "channels": self.channels,
            "dci": self.dci,
            "regions": self.regions,
            "stream": self.stream,
            "memory": self.memory,
            "strip": self.strip,
        }.items():
            self.part(name, compute)

    # What it takes.

    def time(self) -> dict[str, Any]:
        """20,000 samples and the five published fits, from nothing, on worker processes; and their cost in CPU seconds."""
        if "samples" in self.store.list("samples"):
            raise ConfigError(f"{self.store.url} has samples already; time an empty store")
        load, workers = os.getloadavg(), Engine(slots=self.args.slots, quiet=True)
        started = time.perf_counter()
        self.sample(workers)
        sampled = time.perf_counter()
        self.fit("published", workers)
        finished = time.perf_counter()
        before = time.process_time()
        with open_pools(INLINE) as pools:
            count = 1000
            run_sample(SampleJob(store=f"{self.store.url}/cost", count=count, truncation_psi=PSI), pools)
            per_sample = (time.process_time() - before) / count
            before = time.process_time()
            job = FitJob(store=self.store.url, name="cost", components=0, **FITS["published"])
            run_fit(job.model_copy(update={"prefix": "cost-"}), pools)
            fits = time.process_time() - before
        return {
            "samples": self.args.samples,
            "slots": self.args.slots,
            "cores": os.cpu_count(),
            "sampling_seconds": sampled - started,
            "fitting_seconds": finished - sampled,
            "load_before": load,
            "load_after": os.getloadavg(),
            "cpu_seconds_sampling": per_sample * self.args.samples,
            "cpu_seconds_fitting": fits,
        }

    def sample(self, engine: Engine = INLINE) -> None:
        job = SampleJob(store=self.store.url, count=self.args.samples, truncation_psi=PSI)
        with open_pools(engine) as pools:
            run_sample(job, pools)

    def fit(self, name: str, engine: Engine = INLINE) -> dict[str, Any]:
        """Fit; the reports of the directions."""
        # The published fits are calibrated as anybody's are; of the others only a few effects are wanted.
        calibration = {"samples": self.args.calibration if name == "published" else max(self.args.calibration // 3, 1)}
        given = {"store": self.store.url, "name": name, "components": 0, "calibration": calibration, **FITS[name]}
        job = FitJob.model_validate(given)
        with open_pools(engine) as pools:
            run_fit(job, pools)
        return {
            d.name: {"unit": d.unit, "space": d.space, "meaning": d.positive_means, **d.report} for d in self.of(name)
        }

    def of(self, name: str) -> list[Direction]:
        """The directions of a fit."""
        rows = self.store.collection("fits", name).read().to_pylist()
        prefix = FITS[name].get("prefix", "")
        return [self.store.directions.get(prefix + r["image_id"], version=r["version"]) for r in rows]

    def memory(self) -> dict[str, Any]:
        """Peak memory of fitting five boundaries on 20,000 and on 200,000 samples, each in a process of its own."""
        out: dict[str, Any] = {}
        for count in (20_000, 200_000):
            url = str(self.folder / f"memory-{count}")
            command = [sys.executable, "-m", "benchmarks.directions", "memory", "--store", url, "--samples", str(count)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            out[str(count)] = {"sampled_mib": float(found[-2]), "fitted_mib": float(found[-1])}
        return out

    def peak(self) -> str:
        """Label samples by a table (nothing is rendered: that part works a batch at a time anyway), then fit."""
        rng = np.random.default_rng(0)
        names = ("a", "b", "c", "d", "e")
        table, config = self.folder / "labels.parquet", self.folder / "labels.yaml"
        if not table.is_file():
            import pyarrow as pa
            import pyarrow.parquet as pq

            ids = [f"sample-{i:09d}" for i in range(self.args.samples)]
            columns = {name: pa.array(rng.normal(size=len(ids)).astype(np.float32)) for name in names}
            pq.write_table(pa.table({"image_id": ids, **columns}), table)
            config.write_text("kind: table\nname: noise\npath: labels.parquet\n")
        job = SampleJob(store=self.store.url, count=self.args.samples, labeller=str(config), unit_size=5000)
        with open_pools(INLINE) as pools:
            run_sample(job, pools)
        sampled = peak_mib()
        fit = [sys.executable, "-c", _FIT, self.store.url]
        fitted = subprocess.run(fit, check=True, capture_output=True, text=True).stdout.split()[-1]
        return f"{sampled} {fitted}"

    def stream(self) -> dict[str, Any]:
        """GANSpace on samples of W that are drawn as they are needed, in a process of its own."""
        out = {}
        for count in (20_000, 1_000_000):
            run = subprocess.run(
                [sys.executable, "-c", _STREAM, str(count)], check=True, capture_output=True, text=True
            )
            out[str(count)] = json.loads(run.stdout.splitlines()[-1])
        return out

    # What directions do.

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

    def edit(self, direction: Direction, strengths: tuple[float, ...], count: int | None = None) -> Effects:
        start = self.start if count is None else self.start[:count]
        before = self.before[: len(start)]
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
                found = self.edit(direction, STRENGTHS, count)
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
        """The side effect that a condition is for, per standard deviation of the target, with and without it."""
        out: dict[str, Any] = {}
        for fit, held in (("published", "held"), ("ridge", "held-ridge")):
            plain = {d.report["attribute"]: d for d in self.of(fit)}
            for direction in self.of(held):
                attribute = direction.report["attribute"]
                slopes: dict[str, Any] = {}
                for key, one in (("without", plain[attribute]), ("with", direction)):
                    found = self.edit(one, STRENGTHS, 128)
                    slope = found.slope() / found.slope()[found.column(attribute)]
                    slopes[key] = dict(zip(found.attributes, slope.tolist(), strict=True))
                slopes["cosine"] = float(plain[attribute].vector @ direction.vector)
                out.setdefault(fit, {})[attribute] = {"conditions": list(CONDITIONS[attribute]), **slopes}
        return out

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
                    found = self.edit(direction, tuple(sign * s for s in grid), 64)
                    rows = (found.before, found.after, found.sigma, found.attributes, attribute)
                    curve = attribute_dependency(*rows)
                    named = {"layer": direction.report.get("layer"), "channel": direction.report.get("channel")}
                    out.setdefault(attribute, {}).setdefault("add" if sign > 0 else "remove", {})[fit] = {
                        "change": curve.change.tolist(),
                        "mean_ad": curve.mean_ad.tolist(),
                        "max_ad": curve.max_ad.tolist(),
                        "at": {str(x): curve.at(x) for x in (0.25, 0.5, 1.0)},
                        **{key: value for key, value in named.items() if value is not None},
                    }
        return out

    def channels(self) -> dict[str, Any]:
        """Single channels against the W directions at equal response. Chosen on some fresh samples, judged on others."""
        choose, judge = self.start[:64], self.start[128:256]
        layout, statistics = StyleLayout.of(self.generator), self.style_statistics
        screening = screen_channels(self.generator, self.labeller, choose.w, statistics.std, self.sigma)
        out: dict[str, Any] = {}
        for attribute in ("glasses", "smile"):
            rivals = {f: d for f in ("published", "ridge") for d in self.of(f) if d.report["attribute"] == attribute}
            places = screening.best(attribute, 12, least=0.02)
            edits = {i: self.channel(layout, i, screening.sign(attribute, i)) for i in places}
            ratios = {screening.ratio(attribute)[i] for i in places}
            rows: list[dict[str, Any]] = []
            for way, sign in (("add", 1.0), ("remove", -1.0)):
                on = {i: self.measured(d, choose, CHANNEL, sign, attribute) for i, d in edits.items()}
                w = {f: self.measured(d, judge, FINE, sign, attribute) for f, d in rivals.items()}
                judged: dict[int, Effects] = {}
                for response in (0.25, 0.5, 1.0):
                    reached = {i: a for i, e in on.items() if not np.isnan(a := dependency_of(e, attribute, response))}
                    if not reached:
                        continue
                    best = min(reached, key=lambda i: reached[i])
                    if best not in judged:
                        judged[best] = self.measured(edits[best], judge, CHANNEL, sign, attribute)
                    row = {"way": way, "response": response, "layer": layout.place(best)[0].name}
                    row |= {
                        "channel": layout.place(best)[1],
                        "mean_ad": dependency_of(judged[best], attribute, response),
                    }
                    for fit, effects in w.items():
                        row[fit] = dependency_of(effects, attribute, response)
                        row[f"{fit}_interval"] = interval(judged[best], effects, attribute, response)
                    rows.append(row)
            out[attribute] = {"rows": rows, "screened": int(layout.convolutions.sum()), "best_ratio": min(ratios)}
            out[attribute]["w_ratio"] = {f: self.small_ratio(d, attribute) for f, d in rivals.items()}
        return out

    def channel(self, layout: StyleLayout, index: int, sign: float) -> Direction:
        std = float(self.style_statistics.std[index])
        return channel_direction(layout, index, std, self.generator.name, self.generator.fingerprint, sign=sign)

    def measured(self, d: Direction, start: Start, grid: tuple[float, ...], sign: float, attribute: str) -> Effects:
        first = 0 if len(start) == 64 else 128
        before = self.before[first : first + len(start)]
        grid = tuple(sign * strength for strength in grid)
        return measure_effects(self.generator, self.labeller, d, start, grid, self.sigma, before)

    def small_ratio(self, direction: Direction, attribute: str) -> float:
        """Mean |change| of the other scores over that of the target, for a small step: what screening has of channels."""
        found = self.edit(direction, (-0.1, 0.1), 64)
        change = np.abs(found.change()).mean((0, 1))
        at = found.column(attribute)
        return float(np.delete(change, at).mean() / change[at])

    @cached_property
    def style_statistics(self) -> StyleStatistics:
        return style_statistics(self.generator, stream_w(self.generator, self.args.samples, 0))

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
        from benchmarks.directions_page import draw_strip
        from ganinv.directions.effects import edited

        shown = [(d, STRENGTHS) for d in self.of("published")]
        shown += [(d, (-20.0, -10.0, 10.0, 20.0)) for d in self.of("channels")]
        start, rows = self.start[:2], []
        for direction, strengths in shown:
            codes = [edited(self.generator, direction, start, s) for s in strengths]
            codes.insert(2, Code(w=start.w))
            rows.append((direction.name, torch.stack([self.generator.render(code) for code in codes], 1)))
        draw_strip(rows, self.folder / "strip.png")
        return {"rows": [name for name, _ in rows]}


def dependency_of(effects: Effects, attribute: str, response: float, pick: Any = slice(None)) -> float:
    """Mean-AD at a response, over some of the images; NaN where the edit goes the wrong way or not so far."""
    before, after = effects.before[pick], effects.after[:, pick]
    curve = attribute_dependency(before, after, effects.sigma, effects.attributes, attribute)
    moved = (effects.change(attribute)[:, pick].mean(1) * effects.strengths)[-1] > 0
    return curve.at(response)[0] if moved else float("nan")


def interval(channel: Effects, rival: Effects, attribute: str, response: float) -> list[float]:
    """The middle 95 % of the difference in mean-AD, channel less rival, over resampled images."""
    rng, count = np.random.default_rng(0), len(channel.before)
    differences = []
    for _ in range(300):
        pick = rng.integers(0, count, count)
        a, b = (dependency_of(effects, attribute, response, pick) for effects in (channel, rival))
        differences.append(a - b)
    known = np.array(differences)[~np.isnan(differences)]
    return [float(value) for value in np.quantile(known, [0.025, 0.975])] if len(known) > 200 else []


def peak_mib() -> float:
    """Most memory that this process had at once. Not ``ru_maxrss``, which a process inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


_FIT = """
import sys
from benchmarks.directions import peak_mib
from tasks.engine import Engine, open_pools
from tasks.fit import FitJob, run_fit
with open_pools(Engine(kind="inline", quiet=True)) as pools:
    calibration = {"samples": 0}
    interfacegan = {"tails": 400, "estimator": "svc", "bootstrap": 1}
    job = {"store": sys.argv[1], "components": 0, "interfacegan": interfacegan, "calibration": calibration}
    run_fit(FitJob.model_validate(job), pools)
    run_fit(FitJob.model_validate({**job, "name": "ridge", "interfacegan": {"estimator": "ridge"}}), pools)
print(peak_mib())
"""

_STREAM = """
import json, sys, time
from benchmarks.directions import peak_mib
from ganinv.directions import GanSpaceConfig, fit_ganspace
from ganinv.directions.streams import stream_w
from ganinv.generators.files import open_generator
g, started = open_generator("portraits-64"), time.process_time()
found = fit_ganspace(stream_w(g, int(sys.argv[1]), 0), GanSpaceConfig(components=80))
peak = peak_mib()
ratio = found.variance_ratio.cumsum().tolist()
print(json.dumps({"cpu_seconds": time.process_time() - started, "peak_mib": peak, "variance": ratio}))
"""

if __name__ == "__main__":
    main()
