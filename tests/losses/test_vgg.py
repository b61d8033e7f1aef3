"""VGG16 features and Gram matrices: the arithmetic, on a file of random weights; and what is said without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ganinv.errors import ConfigError, WeightsRefused
from ganinv.losses.distance import EmbeddedGram, VggDistance, VggGram, between, gram, halved, open_distance
from ganinv.losses.vgg import MEAN, STD
from tests.losses.vgg_file import CONVS, random_vgg16, write_hub
from tests.tiny import tiny_generator


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_vgg16()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Tensor]) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    write_hub(folder, state)
    return folder


@pytest.fixture
def with_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(home))


def reference(state: dict[str, Tensor], images: Tensor, cut: int, imagenet_norm: bool) -> Tensor:
    """torchvision's ``vgg16().features[:cut]``, written out: 3x3 convolutions, ReLUs, poolings at 4, 9, 16, 23."""
    x = (images + 1) / 2
    if imagenet_norm:
        x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    x = x.double()
    for index in range(cut):
        if index in CONVS:
            x = F.conv2d(
                x, state[f"features.{index}.weight"].double(), state[f"features.{index}.bias"].double(), padding=1
            )
        else:
            x = F.max_pool2d(x, 2) if index in (4, 9, 16, 23) else x.relu()
    return x


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) - 1


@pytest.mark.seconds
@pytest.mark.parametrize("name", ["vgg16-features", "vgg16-features-raw"])
def test_four_layers_in_plain_means(state: dict[str, Tensor], with_file: None, name: str) -> None:
    """relu1_1, relu1_2, relu3_2, relu4_2 are where community code cuts torchvision's features: 2, 4, 14, 21."""
    a, b = pictures(2, 32), pictures(2, 32, seed=1)
    distance = open_distance(name, tiny_generator())
    assert distance.name == name
    want = torch.zeros(2, dtype=torch.float64)
    for cut, shape in ((2, (64, 32, 32)), (4, (64, 32, 32)), (14, (256, 8, 8)), (21, (512, 4, 4))):
        x, y = (reference(state, images, cut, not name.endswith("raw")) for images in (a, b))
        assert x.shape[1:] == shape
        want += (x - y).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(between(distance.features(a), distance.features(b)).double(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.seconds
def test_normalisation_matters(with_file: None) -> None:
    a, b = pictures(1, 32), pictures(1, 32, seed=1)
    apart = [between(d.features(a), d.features(b)) for d in (VggDistance(), VggDistance(imagenet_norm=False))]
    assert apart[0] > 2 * apart[1]


@pytest.mark.seconds
def test_large_images_are_measured_at_256(with_file: None) -> None:
    large = pictures(1, 512)
    distance = VggDistance()
    small = F.adaptive_avg_pool2d(large, 256)
    assert torch.equal(halved(large, 256), small)
    for x, y in zip(distance.features(large), distance.features(small), strict=True):
        assert torch.equal(x, y)


@pytest.mark.seconds
@pytest.mark.parametrize("name", ["vgg16-features", "gram-vgg16", "gram-embedded"])
def test_gradients_do_not_depend_on_the_batch(with_file: None, name: str) -> None:
    distance = open_distance(name, tiny_generator())
    images, target = pictures(8, 32).requires_grad_(True), pictures(8, 32, seed=1)
    (together,) = torch.autograd.grad(between(distance.features(images), distance.features(target)).sum(), images)
    half = images.detach()[4:].requires_grad_(True)
    (alone,) = torch.autograd.grad(between(distance.features(half), distance.features(target[4:])).sum(), half)
    assert torch.equal(together[4:], alone)


def test_gram_of_relu3_3(state: dict[str, Tensor], with_file: None) -> None:
    images = pictures(2, 32)
    (got,) = VggGram().features(images)
    maps = reference(state, images, 16, True)
    want = torch.einsum("bihw,bjhw->bij", maps, maps) / (256 * 8 * 8)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6)


def test_gram_forgets_where_and_keeps_what() -> None:
    maps = torch.randn(2, 5, 6, 6, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(36, generator=torch.Generator().manual_seed(1))
    shuffled = maps.flatten(2)[:, :, order].reshape_as(maps)
    torch.testing.assert_close(gram(maps), gram(shuffled))
    assert (gram(maps) - gram(maps.roll(1, dims=1))).abs().max() > 0.01


def test_embedded_gram_is_measured_at_a_quarter() -> None:
    g = tiny_generator()
    style = open_distance("gram-embedded", g)
    assert isinstance(style, EmbeddedGram)
    (got,) = style.features(pictures(2, 32))
    (maps,) = [f for f in g.discriminator.features(pictures(2, 32)) if f.shape[-1] == 8]
    torch.testing.assert_close(got, gram(maps))


@pytest.mark.parametrize("name", ["vgg16-features", "gram-vgg16"])
def test_without_the_file_it_says_where_it_belongs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        ConfigError, match=f"{name} needs the torchvision weights vgg16-397923af.pth in .*distance: auto"
    ):
        open_distance(name, tiny_generator())


def test_another_file_of_that_name_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = write_hub(tmp_path, {k: v for k, v in state.items() if k != "features.12.bias"})
    with pytest.raises(WeightsRefused, match=r"missing features\.12\.bias"):
        VggDistance(backbone=path)
    torch.save({**state, "features.0.weight": torch.full((64, 3, 3, 3), float("nan"))}, path)
    with pytest.raises(WeightsRefused, match="not finite"):
        VggDistance(backbone=path)
    torch.save([1, 2, 3], path)
    with pytest.raises(WeightsRefused, match="missing"):
        VggDistance(backbone=path)
