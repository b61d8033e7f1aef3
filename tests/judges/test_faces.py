"""What dlib sees in faces of 64 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.data import open_dataset
from ganinv.errors import DataError
from ganinv.judges import SAME_PERSON, FaceJudge, identity_distance, measure_faces, open_glasses_probe
from ganinv.judges.glasses_fit import blurred, measure_probe, read_labels
from ganinv.judges.identity import verify
from ganinv.judges.squeezenet import SqueezeNet


@pytest.mark.seconds
def test_faces_are_found_and_noise_is_none(face_judge: FaceJudge, people: Tensor, noise: Tensor) -> None:
    faces = face_judge.look(torch.cat([people, noise]))
    assert faces.found.tolist() == [True, True, False, False]
    assert ((faces.landmarks[:2] > 0) & (faces.landmarks[:2] < 1)).all()
    assert np.isnan(faces.landmarks[2:]).all()
    descriptors = face_judge.describe(faces)
    assert np.isnan(descriptors[2:]).all()
    assert np.isnan(measure_faces(faces)["yaw"]).tolist() == [False, False, True, True]


@pytest.mark.seconds
def test_a_person_stays_one_when_blurred_and_two_are_two(face_judge: FaceJudge, people: Tensor) -> None:
    sharp, soft = (face_judge.describe(face_judge.look(images)) for images in (people, blurred(people)))
    assert (identity_distance(sharp, soft) < SAME_PERSON).all()
    assert identity_distance(sharp[:1], sharp[1:]) > SAME_PERSON


@pytest.mark.seconds
def test_mirroring_negates_yaw_and_keeps_mouth_and_eyes(face_judge: FaceJudge, people: Tensor) -> None:
    here, there = (measure_faces(face_judge.look(images)) for images in (people, people.flip(3)))
    np.testing.assert_allclose(here["yaw"], -there["yaw"], atol=0.06)
    np.testing.assert_allclose(here["mouth_width"], there["mouth_width"], atol=0.08)
    np.testing.assert_allclose(here["eye_opening"], there["eye_opening"], atol=0.06)


@pytest.mark.seconds
def test_the_images_are_not_a_batch(face_judge: FaceJudge) -> None:
    with pytest.raises(DataError, match=r"takes images \[N, 3, R, R\] in \[-1, 1\], got \(3, 64, 64\)"):
        face_judge.look(torch.zeros(3, 64, 64))


@pytest.mark.seconds
def test_identity_at_64_pixels_on_the_london_faces(face_judge: FaceJudge, shared: Path) -> None:
    dataset = open_dataset(str(shared / "data" / "real-photos" / "london-cc-by-aligned256"))
    loaded = dataset.load(dataset.ids, 64)
    found = verify(face_judge.describe(face_judge.look(loaded.images)), [i.split("_")[0] for i in loaded.ids])
    assert (len(found.same), len(found.different)) == (8, 488)
    assert found.auc > 0.99
    assert "AUC 1.0000 of 8 pairs of one person" in str(found)


def test_verification_says_when_it_is_not_to_be_believed() -> None:
    descriptors = np.zeros((4, 128))
    descriptors[:, 0] = [0, 3, 1, 2]
    found = verify(descriptors, ["a", "a", "b", "b"])
    assert found.auc == pytest.approx(0.375)
    assert str(found).endswith("Under 0.95: identity at this size says little.")
    with pytest.raises(DataError, match="the 4 images with a face are of 4 people"):
        verify(descriptors, list("abcd"))


@pytest.mark.seconds
def test_glasses_of_two_people(face_judge: FaceJudge, squeezenet: SqueezeNet, people: Tensor, noise: Tensor) -> None:
    probe = open_glasses_probe(net=squeezenet)
    images = torch.cat([people, noise[:1]])
    says = probe.probability(images, face_judge.look(images))
    assert says[0] < 0.2
    assert says[1] > 0.8
    assert np.isnan(says[2])


@pytest.mark.slow
def test_glasses_on_held_out_portraits(face_judge: FaceJudge, squeezenet: SqueezeNet, shared: Path) -> None:
    table = shared / "data" / "official-portraits" / "portraits.parquet"
    images, labels, _ = read_labels(str(table), "test", 64)
    probe = open_glasses_probe(net=squeezenet)
    found = measure_probe(probe.score(images, face_judge.look(images)), labels)
    assert found["images"] == 156
    assert found["accuracy"] > 0.96
    assert found["auc"] > 0.98
