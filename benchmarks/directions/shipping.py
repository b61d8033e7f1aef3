"""Directions that ship with the embedded generator: one for each attribute of its labeller, fitted, calibrated and measured.

``python -m benchmarks.assets make --only shipped-directions`` makes them where they are not of today's generator, labeller and
settings. They lie as a store holds them, so that any store finds them where it has none of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment

from ganinv.config import digest
from ganinv.directions.direction import Direction
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.store import open_store
from ganinv.store.directions import SHIPPED, SHIPPED_VERSION, direction_bytes
from tasks.engine import Engine, open_pools
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.sample import SampleJob, run_sample

STEP = "shipped-directions"
COMMAND = f"python -m benchmarks.assets make --only {STEP}"
SAMPLE = {"count": 20_000, "seed": 0, "truncation_psi": 0.8}
FIT = {"methods": [{"method": "interfacegan", "tails": 0.1, "layers": {"glasses": [2, 6]}}]}
"""As `ganinv fit` does by default; glasses on the rows that draw what is 8 and 16 pixels large."""


def is_current(generator: Generator) -> bool:
    """Whether what ships is of this generator, and of today's labeller and settings."""
    folder = SHIPPED / generator.name
    there = [each["report"].get("shipped", {}) for each in open_store(str(folder)).directions.list()]
    return bool(there) and all(said == _said(generator) for said in there)


def ship(store: str, generator: Generator) -> None:
    """Sample, label and fit in ``store`` (or go on doing so), and write what ships, beside its model card."""
    at = {"store": store, "generator": generator.name, "labeller": generator.name}
    with open_pools(Engine()) as pools:
        run_sample(SampleJob.model_validate({**at, **SAMPLE}), pools)
        run_fit(FitJob.model_validate({**at, **FIT, "name": f"shipped-{digest(FIT)[:8]}"}), pools)
    shelf, labeller, folder = open_store(store).directions, open_labeller(generator.name), SHIPPED / generator.name
    shutil.rmtree(folder, ignore_errors=True)
    directions = []
    for name in sorted(labeller.attributes):
        found = shelf.get(name, generator.fingerprint)
        direction = replace(found, report={**found.report, "shipped": _said(generator)})
        path = folder / "directions" / name / str(SHIPPED_VERSION) / "direction.parquet"
        path.parent.mkdir(parents=True)
        path.write_bytes(direction_bytes(direction))
        directions.append(direction)
    (folder / "MODEL_CARD.md").write_text(card(directions, generator))


def _said(generator: Generator) -> dict[str, Any]:
    """What is noted in the report of each."""
    labeller = open_labeller(generator.name)
    settings = {"sample": SAMPLE, "fit": FIT, "labeller": labeller.weights_sha256, "generator": generator.fingerprint}
    return {"command": COMMAND, "digest": digest(settings), **SAMPLE}


def card(directions: Sequence[Direction], generator: Generator) -> str:
    """The model card."""
    rows = [
        {
            "d": direction,
            "accuracy": direction.report["validation_accuracy"],
            "cosine": direction.report["stability"],
            "change": direction.report["calibration"]["response"][-3:],
            "monotone": direction.report["calibration"]["monotone"],
            "else": ", ".join(f"{other} {change:+.2f}" for other, change in _side_effects(direction)[:2]),
        }
        for direction in directions
    ]
    environment = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False, keep_trailing_newline=True)
    return environment.from_string(Path(__file__).with_name("shipped.md.j2").read_text()).render(
        rows=rows, g=generator, sample=SAMPLE, command=COMMAND, labeller=directions[0].labeller
    )


def _side_effects(direction: Direction) -> list[tuple[str, float]]:
    """What a step changes besides, most first."""
    found = direction.report["calibration"]
    others = [(name, change) for name, change in found["side_effects"].items() if name != found["attribute"]]
    return sorted(others, key=lambda each: -abs(each[1]))
