"""The codes of every pass of an inverter, kept on request."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from ganinv.codes.code import Code
from ganinv.methods.files import save_inverter
from ganinv.store import open_store
from tasks.engine import Engine, open_pools
from tasks.steps.invert import InvertJob, run_invert
from tests.contracts.inverters import World, quantised


@pytest.mark.seconds
def test_every_pass_is_a_column_beside_the_result(tmp_path: Path) -> None:
    world = World(tmp_path)
    restyle, store = world.inverter("restyle"), open_store(str(tmp_path / "store"))
    save_inverter(restyle, f"{store.url}/encoders/mine", generator=world.generator)
    method, stage = tmp_path / "method.yaml", {"kind": "encode", "encoder": "mine", "steps": 3, "keep_passes": True}
    method.write_text(yaml.safe_dump({"name": "mine", "summary": "", "space": "w+", "stages": [stage]}))
    job = {
        "store": store.url,
        "generator": str(tmp_path / "generator"),
        "dataset": {"url": world.files},
        "method": str(method),
        "measure": False,
    }
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        assert run_invert(InvertJob.model_validate(job), pools)["rows"] == 4
    table = store.latents["mine"].read(["image_id", "w", "w_passes"]).sort_by("image_id")
    passes = torch.from_numpy(table["w_passes"].combine_chunks().to_numpy_ndarray().copy())
    expected = torch.stack([code.w for code in restyle.refine(quantised(world.images), steps=3)], dim=1)
    torch.testing.assert_close(passes, expected, atol=1e-4, rtol=1e-4)
    w = torch.from_numpy(table["w"].combine_chunks().to_numpy_ndarray().copy())
    assert torch.equal(passes[:, -1], Code(w=w).w)
