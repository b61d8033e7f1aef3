"""What somebody may give to ``Target``, ``Method.invert`` and ``Generator.render`` from Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.errors import ConfigError
from ganinv.generators.files import open_generator
from ganinv.stages.method import Method, load_method
from ganinv.target import Target


@pytest.fixture(scope="module")
def method() -> Method:
    return load_method("e4e", open_generator("portraits-64"))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_what_is_no_picture_is_refused(images: Tensor) -> None:
    for given, found in ((images.byte(), "uint8"), (images.numpy(), "ndarray"), ([1.0], "list")):
        with pytest.raises(ValueError, match=rf"floating-point numbers in \[-1, 1\], got .*{found}: bytes become"):
            Target(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("ids", [["a", "b"], np.array(["a", "b"]), ("a", "b")])
def test_ids_are_any_list_of_names(images: Tensor, ids: Any) -> None:
    assert Target(images, ids).ids == ["a", "b"]
    assert Target(images).ids == ["0", "1"]
    assert Target(images, [1, 2]).ids == ["1", "2"]  # type: ignore[list-item]
    with pytest.raises(ValueError, match="a list of names, got the text 'ab'"):
        Target(images, "ab")
    with pytest.raises(ValueError, match="one unique id per image: 2 images"):
        Target(images, ["a"])


def test_images_of_another_range_are_refused_and_of_another_precision_are_read(method: Method, images: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"in \[-1, 1\], got values up to 25[45].*images / 127.5 - 1"):
        method.invert(Target((images + 1) * 127.5))
    with pytest.raises(ConfigError, match="no images to invert"):
        method.invert(Target(images[:0]))
    found = method.invert(Target(images.double()))
    assert found.code.w.dtype == torch.float32
    assert torch.equal(found.code.w, method.invert(Target(images)).code.w)


def test_an_image_that_is_not_finite_is_an_error_of_its_own(method: Method, images: Tensor) -> None:
    images[1, 0, 0, 0] = torch.inf
    error = method.invert(Target(images)).error
    assert error[0] is None
    assert "not finite" in str(error[1])


def test_latents_that_are_no_code(method: Method) -> None:
    g = method.context.generator
    w = g.map(torch.zeros(1, g.z_dim))
    with pytest.raises(ValueError, match=r"renders a code, got Tensor: latents w become ganinv.Code\(w\)"):
        g.render(w)  # type: ignore[arg-type]
    assert g.render(Code(w)).shape == (1, 3, 64, 64)
