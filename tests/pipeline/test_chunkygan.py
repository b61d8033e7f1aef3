"""ChunkyGAN through the store: inverted, stored in 8-bit masks, rendered again and edited by segment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flows.render import render_latents
from ganinv.config import config_names
from ganinv.directions.direction import Direction
from ganinv.generators.files import EMBEDDED, open_generator
from ganinv.records import table_to_code
from ganinv.stages.base import Context
from ganinv.stages.method import load_method
from ganinv.stages.objective import ReconstructionLoss
from ganinv.stages.optimize import Optimize
from ganinv.stages.segment import Segment
from ganinv.stages.segment_masks import MaskSource
from ganinv.store import open_store
from ganinv.target import Target
from tasks.engine import Engine, open_pools
from tasks.records import Measurer
from tasks.sources import DatasetRef
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.invert import InvertJob, run_invert

SHORT = {"space": "w+", "steps": 2, "latent_noise": 0.0}
FEWER = {"segmenter": "aligned-face", "merge": {"face": ["skin", "nose", "eye", "eyebrow"], "mouth": ["mouth"]}}


def run(step: Any, job: Any) -> dict[str, Any]:
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        result: dict[str, Any] = step(job, pools)
    return result


@pytest.mark.seconds
def test_it_goes_through_the_store(faces: Path, tmp_path: Path) -> None:
    """Two segments of a face; around them the photo. What is stored renders what was measured, again and edited."""
    url = str(tmp_path / "store")
    changes = {"masks": FEWER, "optimize": SHORT}
    job = InvertJob(
        store=url,
        dataset=DatasetRef(url=str(faces), limit=2),
        method="chunkygan-learned",
        name="chunky",
        overrides={"stages": {0: changes, 1: {"steps": 2}}},
    )
    assert run(run_invert, job)["rows"] == 2
    store, g = open_store(url), open_generator(EMBEDDED)
    table = store.latents["chunky"].read()
    code = table_to_code(table, store)
    assert code.segments is not None
    assert code.segments.names == ("face", "mouth")
    ids = table["image_id"].to_pylist()
    photos = DatasetRef(url=str(faces), limit=2).open().load(ids, 64).images
    measurer = Measurer(g, "embedded")
    for n in range(2):
        ((mse, distance),) = measurer(code[n], photos[n : n + 1])
        assert (mse, distance) == pytest.approx(
            (table["stored_mse"][n].as_py(), table["stored_distance"][n].as_py()), rel=1e-4
        )
        assert distance == pytest.approx(table["distance"][n].as_py(), rel=0.05)
    outside = (code.segments.shares().sum(1) == 0).expand(-1, 3, -1, -1)
    assert outside.float().mean() > 0.3
    images = g.render(code)
    assert (images - photos)[outside].abs().max() < 0.5 / 127.5 + 1e-6  # the photo, in 8 bits

    out = tmp_path / "images"
    render_latents(url, "chunky", out, [ids[0]], EMBEDDED)
    png = np.asarray(Image.open(next(out.glob("*.png")))).astype(int)
    assert np.abs(png - ((images[0] + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()).max() <= 1

    vector = np.random.default_rng(0).normal(size=g.w_dim)
    store.directions.put(Direction("smile", vector / np.linalg.norm(vector), "w", g.name, g.fingerprint, "test"))
    spec = EditSpec(name="grin", directions={"smile": 1.0}, strengths=(4.0,), segment="mouth")
    run(run_edit, EditJob(store=url, latents="chunky", edits=(spec,)))
    edited = g.render(table_to_code(store.edits["edits"].read(), store))
    still = (code.segments.masks[:, 1] == 0).expand(-1, 3, -1, -1)
    assert torch.equal(edited[still], images[still])
    assert (edited - images).abs().amax(dim=(1, 2, 3)).min() > 0.05


@pytest.mark.parametrize("name", ["chunkygan", "chunkygan-learned"])
def test_the_shipped_methods_cover_the_face(name: str) -> None:
    assert name in config_names("methods")
    g = open_generator(EMBEDDED)
    method = load_method(name, g)
    stage = method.cfg.stages[0]
    assert isinstance(stage, Segment)
    masks = stage.masks.of(Target(torch.zeros(1, 3, 64, 64)))
    assert len(masks) == 8
    torch.testing.assert_close(torch.stack(list(masks.values())).sum(0), torch.ones(1, 1, 64, 64))
    assert all(mask.sum() >= 20 for mask in masks.values())


@pytest.mark.slow
def test_more_segments_reconstruct_better_and_dispersion_keeps_codes_near(shared: Path) -> None:
    """docs/methods/chunkygan.md, check 4, on portraits: the embedded distance stands for LPIPS."""
    g = open_generator(EMBEDDED)
    data = DatasetRef(
        url=str(shared / "data/official-portraits/portraits.parquet"), where={"split": "test"}, limit=4
    ).open()
    loaded = data.load(data.ids, g.resolution)
    target = Target(loaded.images, loaded.ids)
    context = Context(g, lambda name: None)  # type: ignore[arg-type, return-value]
    measurer = Measurer(g, "embedded")
    eight = load_method("chunkygan", g).cfg.stages[0]
    assert isinstance(eight, Segment)

    def distances(masks: MaskSource, dispersion: float) -> tuple[list[float], float]:
        loss = ReconstructionLoss(mse_weight=0.0, dispersion_weight=dispersion)
        optimize = Optimize(space="w+", steps=10, latent_noise=0.0, loss=loss)
        code = Segment(masks=masks, dilation=3, optimize=optimize)(target, None, context).code
        assert code.segments is not None
        far = (code.w[:, None] + code.segments.w - g.w_mean).norm(dim=-1).mean()
        return [distance for _, distance in measurer(code, target.images)], float(far)

    one, _ = distances(MaskSource(grid=(1, 1)), 10.0)
    many, near = distances(eight.masks, 10.0)
    free, far = distances(eight.masks, 0.0)
    assert sum(a < b for a, b in zip(many, one, strict=True)) >= 0.9 * len(target)
    assert near < far
    assert sum(many) < 1.15 * sum(free)
