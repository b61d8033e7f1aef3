"""The face descriptor by PyTorch is dlib's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from ganinv.errors import WeightsRefused
from ganinv.judges import FaceJudge
from ganinv.judges.descriptor import DescriptorNet
from ganinv.judges.faces import DESCRIPTOR


@pytest.mark.seconds
def test_descriptors_are_those_of_dlib(face_judge: FaceJudge, people: Tensor) -> None:
    import dlib

    faces = face_judge.look(people)
    recogniser = dlib.face_recognition_model_v1(str(DESCRIPTOR.path()))
    dlibs = [
        recogniser.compute_face_descriptor(image, shape) for image, shape in zip(faces.pixels, faces.boxes, strict=True)
    ]
    np.testing.assert_allclose(face_judge.describe(faces), np.array(dlibs), atol=2e-6)


def test_another_file_is_no_network_of_descriptors(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(b"\x05con_4\x01\x02\x01\x08\x01\x01\x01\x01\x01\x01" + bytes(32))
    with pytest.raises(WeightsRefused, match="does not hold dlib's network of face descriptors"):
        DescriptorNet(tmp_path / "x.dat")
