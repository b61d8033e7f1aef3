"""A store with samples, directions, inversions, edits and training of a tiny generator: made up, of the real form."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.generators.stylegan2 import Generator, GeneratorConfig
from ganinv.records import code_to_table
from ganinv.report.images import pixels
from ganinv.store import Collection, Plan, RowError, Store, open_store, tensor_array

NASTY = '<script>alert("x")</script> & $\\alpha$'
IDS = [f"image-{i:02d}" for i in range(13)] + [NASTY]
FAILED = "image-05"
ATTRIBUTES = ("smile", "age")
ERRORS = {"pti": 0.01, "w-plus-optimisation": 0.02, "e4e": 0.06, "w-projection": 0.12}
"""Method -> the mean squared error that its made-up inversions have, about."""
STRENGTHS = (-2.0, -1.0, 1.0, 2.0)


def tiny_generator(resolution: int = 32) -> Generator:
    torch.manual_seed(0)
    widths = (16, 16, 16, 8, 8)[: int(np.log2(resolution)) - 1]
    generator = Generator(
        GeneratorConfig(resolution=resolution, channels=widths, z_dim=16, w_dim=16, mapping_layers=2)
    ).eval()
    generator.name = "tiny"
    generator.measure_w(500)
    return generator


def empty_store() -> Store:
    return open_store(f"memory://{uuid.uuid4().hex}")


def stocked(generator: Generator, ids: Sequence[str] = IDS, methods: Sequence[str] = tuple(ERRORS)) -> Store:
    """Everything a report can show."""
    store = empty_store()
    add_samples(store, generator)
    add_directions(store, generator)
    for method in methods:
        add_inversions(store, generator, method, ids)
    add_edits(store, generator, methods[0], ids)
    add_training(store)
    return store


def sources(generator: Generator) -> Callable[[Sequence[str]], dict[str, np.ndarray]]:
    """Source images: what the codes would render without the methods' errors."""

    def read(ids: Sequence[str]) -> dict[str, np.ndarray]:
        return {i: pixels(generator.render(Code(_latents(generator, [i]))))[0] for i in ids}

    return read


def add_samples(store: Store, generator: Generator, count: int = 60) -> None:
    rng = np.random.default_rng(0)
    w = _draw(generator, count, 1)
    table = pa.table(
        {
            "image_id": [f"sample-{i:06d}" for i in range(count)],
            "seed": pa.array(range(count), pa.int64()),
            "w": tensor_array(w),
            "truncation_psi": pa.array([0.7] * count, pa.float32()),
            **{
                f"score_{a}": pa.array(w[:, k] + rng.normal(0, 0.1, count), pa.float32())
                for k, a in enumerate(ATTRIBUTES)
            },
        }
    )
    write(store.samples["set"], "sample", table, {"labeller": "tiny@1"}, _made_by(generator))


def add_directions(store: Store, generator: Generator) -> None:
    rng = np.random.default_rng(1)
    for place, attribute in enumerate(ATTRIBUTES):
        vector = np.eye(16, dtype=np.float32)[place] + rng.normal(0, 0.1, 16).astype(np.float32)
        report = {"attribute": attribute, "samples": 60, "validation_accuracy": 0.95 - 0.1 * place, "stability": 0.9}
        direction = Direction(
            name=attribute,
            vector=vector / np.linalg.norm(vector),
            space="w",
            generator_name=generator.name,
            generator_fingerprint=generator.fingerprint,
            method="interfacegan-ridge",
            positive_means=f"more {attribute} <b>",
            report=report | {"remaining_accuracy": None},
        )
        store.directions.put(direction)


def add_inversions(store: Store, generator: Generator, method: str, ids: Sequence[str] = IDS) -> None:
    """``latents`` and ``metrics`` of a method; ``FAILED`` has no row in the first of them."""
    rng = np.random.default_rng(len(method))
    kept = [i for i in ids if not (method == "pti" and i == FAILED)]
    noise = torch.from_numpy(rng.normal(0, ERRORS[method] ** 0.5, (len(kept), generator.num_ws, 16))).float()
    errors = ERRORS[method] * rng.lognormal(0, 0.15, len(kept))
    steps = 20 if method != "e4e" else 0
    collection = store.latents[f"set-{method}"]
    extras: dict[str, Any] = {"styles": {"convs.1": 0.3 * noise[:, 0]}} if method == "pti" else {}
    code = Code(_latents(generator, kept) + noise, **extras)
    failures = [RowError(i, "not_finite", f"the loss of {NASTY} is NaN", 2) for i in ids if i not in kept]
    plan = _plan("invert", {"method": {"name": method}}, {"method": method, **_made_by(generator)}, ids)
    collection.start(plan)
    rows = code_to_table(code, kept, collection)
    curves = [[float(e * 5 * 0.8**s + e) for s in range(steps)] for e in errors]
    for name, column in {
        "space": pa.array(["w+"] * len(kept)),
        "mse": pa.array(errors * 1.1, pa.float32()),
        "distance": pa.array(errors * 3, pa.float32()),
        "stop_reason": pa.array(["steps"] * len(kept)),
        "steps": pa.array([steps] * len(kept), pa.int32()),
        "loss": pa.array(curves, pa.list_(pa.float32())),
    }.items():
        rows = rows.append_column(name, column)
    seconds = dict.fromkeys(ids, (0.02 + 0.1 * steps) * (2 if method == "pti" else 1))
    _write_rows(collection, plan, rows, failures, seconds)
    columns = {
        "mse": errors,
        "psnr": 10 * np.log10(4 / errors),
        "ssim": 1 - 3 * errors,
        "ms_ssim": np.full(len(kept), np.nan),
        "distance": errors * 4,
    }
    for attribute in ATTRIBUTES:
        score = rng.normal(0, 1, len(kept))
        columns |= {
            f"score_{attribute}_source": score,
            f"score_{attribute}": score + rng.normal(0, 4 * ERRORS[method], len(kept)),
        }
    table = pa.table(
        {"image_id": pa.array(kept, pa.string()), **{name: pa.array(v, pa.float32()) for name, v in columns.items()}}
    )
    protocol = {"protocol": {"name": "inversion-2", "distance": "embedded"}}
    write(
        store.metrics[f"set-{method}"],
        "evaluate",
        table,
        protocol,
        {"distance_name": "embedded", **_made_by(generator)},
    )


def add_edits(store: Store, generator: Generator, method: str, ids: Sequence[str] = IDS) -> None:
    rng = np.random.default_rng(2)
    collection, latents = store.edits["set-edits"], store.latents[f"set-{method}"]
    kept = latents.read(["image_id"])["image_id"].to_pylist()
    plan = _plan("edit", {"latents": latents.name}, _made_by(generator), kept)
    collection.start(plan)
    parts, scores = [], []
    for place, attribute in enumerate(ATTRIBUTES):
        for strength in STRENGTHS:
            w = _latents(generator, kept)
            w[:, :, place] += strength
            part = code_to_table(Code(w), kept, collection)
            fields = {
                "edit": pa.array([attribute] * len(kept)),
                "strength": pa.array([strength] * len(kept), pa.float32()),
            }
            for name, column in fields.items():
                part = part.append_column(name, column)
            parts.append(part)
            before = {a: w[:, 0, k].numpy() - strength * (k == place) for k, a in enumerate(ATTRIBUTES)}
            after = {
                a: b + strength * (0.5 if a == attribute else 0.1) + rng.normal(0, 0.1, len(kept))
                for a, b in before.items()
            }
            columns = {f"score_{a}_before": b for a, b in before.items()} | {f"score_{a}": b for a, b in after.items()}
            scores.append(
                pa.table({"image_id": kept, **fields, **{n: pa.array(v, pa.float32()) for n, v in columns.items()}})
            )
    _write_rows(collection, plan, pa.concat_tables(parts), [], dict.fromkeys(kept, 0.01))
    write(
        store.collection("edit-metrics", "set-edits"),
        "evaluate-edits",
        pa.concat_tables(scores),
        {},
        _made_by(generator),
    )


def add_training(store: Store, steps: int = 120) -> None:
    step = np.arange(1, steps + 1)
    rng = np.random.default_rng(3)
    columns = {
        "step": step,
        "stage": step // 40,
        "total": 2 / step**0.5 + rng.normal(0, 0.03, steps),
        "l2": 1 / step**0.4 + rng.normal(0, 0.02, steps),
        "discriminator": np.where(step < 40, np.nan, 1.3 + rng.normal(0, 0.05, steps)),
    }
    table = pa.table(
        {"image_id": [f"step-{s:06d}" for s in step], **{n: pa.array(v.astype(np.float32)) for n, v in columns.items()}}
    )
    write(store.collection("training", "e4e"), "train", table, {"steps": steps}, {})


def write(
    collection: Collection, stage: str, table: pa.Table, config: dict[str, Any], provenance: dict[str, Any]
) -> None:
    """A finished collection of this table."""
    ids = sorted(set(table["image_id"].to_pylist()))
    plan = _plan(stage, config, provenance, ids)
    collection.start(plan)
    _write_rows(collection, plan, table, [], dict.fromkeys(ids, 0.001))


def _write_rows(
    collection: Collection, plan: Plan, table: pa.Table, errors: Sequence[RowError], seconds: dict[str, float]
) -> None:
    for unit in plan.units:
        there = pa.array([i in unit.ids for i in table["image_id"].to_pylist()], pa.bool_())
        own = [error for error in errors if error.image_id in unit.ids]
        collection.write_part(unit.index, table.filter(there), own, {i: seconds[i] for i in unit.ids})


def _plan(stage: str, config: dict[str, Any], provenance: dict[str, Any], ids: Sequence[str]) -> Plan:
    return Plan.of(stage, config, provenance, ids, 50)


def _made_by(generator: Generator) -> dict[str, Any]:
    return {"generator_name": generator.name, "generator_fingerprint": generator.fingerprint, "seed": 1}


def _draw(generator: Generator, count: int, seed: int) -> np.ndarray:
    with torch.no_grad():
        z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
        return generator.map(z)[:, 0].numpy()


def _latents(generator: Generator, ids: Sequence[str]) -> torch.Tensor:
    seeds = [sum(map(ord, i)) for i in ids]
    w = np.concatenate([_draw(generator, 0, 0), *(_draw(generator, 1, seed) for seed in seeds)])
    return torch.from_numpy(w)[:, None].repeat(1, generator.num_ws, 1)
