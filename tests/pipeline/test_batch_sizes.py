"""A run's result does not depend on its batches, to the bit: whole methods, through the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganinv.machine import Machine
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.jobs.dataset import DatasetRef
from tasks.steps.invert import InvertJob, run_invert


@pytest.mark.slow
def test_pti_in_batches_of_two_and_of_sixteen_is_equal_to_the_bit(demo_pictures: Path, tmp_path: Path) -> None:
    """Search and tuning on eight portraits: one differing bit at the start would be seen at the end.

    The search takes more steps than L-BFGS remembers, the tuning enough to pass its rampdown; more are more of the same.
    """
    images = DatasetRef(url=str(demo_pictures), limit=8)
    for size in (2, 16):
        job = InvertJob(
            store=str(tmp_path / str(size)),
            dataset=images,
            method="pti-w",
            unit_size=size,
            overrides={"batch_size": size, "stages": {0: {"steps": 12}, 1: {"steps": 8}}},
        )
        with open_pools(Engine(kind="inline", quiet=True)) as pools:
            assert run_invert(job, pools)["rows"] == 8
    few, many = (open_store(str(tmp_path / str(size))).latents["pti-w"] for size in (2, 16))
    columns = ["image_id", "w", "mse", "distance", "loss", "extras_bytes", "extras_sha256"]
    assert few.read(columns).equals(many.read(columns)), f"{Machine.here()}: {Machine.here().traces}"
    files = [{f.name: f.read_bytes() for f in (Path(c.url) / "extras").iterdir()} for c in (few, many)]
    assert len(files[0]) == 8
    assert files[0] == files[1]
