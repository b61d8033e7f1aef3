"""Shapes of the published networks: parameter and key counts of the papers' code, maps, heads. On the meta device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ganinv.methods.e4e import E4e
from ganinv.methods.in_domain import InDomainConfig, InDomainEncoder
from ganinv.methods.inputs import band, fit, pool
from ganinv.methods.padinv import PadInv, PadInvConfig
from ganinv.methods.psp import Psp, PspConfig
from ganinv.methods.rows import RowEncoder
from ganinv.methods.w import NaiveWPlusEncoder, WEncoder, WEncoderConfig
from ganinv.networks.fusion import ConsultationEncoder, ResidualAligner
from ganinv.networks.heads import Map2Style
from ganinv.networks.hypernet import HyperNetwork, Shape
from ganinv.networks.irse import IRSE50
from ganinv.networks.resnet import ResNet34


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def keys(module: nn.Module) -> int:
    """Tensors of the published state dict: ours beside it is the mean latent."""
    return len(module.state_dict()) - 1


def rows(cls: type[RowEncoder], num_ws: int, **other: Any) -> RowEncoder:
    with torch.device("meta"):
        return cls(PspConfig(resolution=256, num_ws=num_ws, w_dim=512, **other))


@pytest.mark.parametrize("cls", [Psp, E4e])
@pytest.mark.parametrize(
    ("num_ws", "count", "names"), [(18, 267_136_704, 621), (16, 238_293_696, 593), (14, 209_450_688, 565)]
)
def test_psp_and_e4e(cls: type[RowEncoder], num_ws: int, count: int, names: int) -> None:
    encoder = rows(cls, num_ws, backbone="ir-se-50")
    assert (parameters(encoder), keys(encoder)) == (count, names)


@pytest.mark.parametrize(
    ("backbone", "pyramid", "num_ws", "count", "names"),
    [
        ("ir-se-50", False, 18, 205_585_792, 565),
        ("ir-se-50", False, 14, 166_778_240, 525),
        ("resnet-34", False, 18, 195_928_128, 397),
        ("resnet-34", False, 16, 176_524_352, 377),
        ("ir-se-50", True, 18, 267_138_432, None),
        ("resnet-34", True, 18, 257_480_768, None),
        ("resnet-34", True, 14, 199_794_752, None),
    ],
)
def test_restyle(backbone: str, pyramid: bool, num_ws: int, count: int, names: int | None) -> None:
    encoder = rows(E4e, num_ws, backbone=backbone, pyramid=pyramid, sees_rendering=True)
    assert parameters(encoder) == count
    assert names is None or keys(encoder) == names


@pytest.mark.parametrize(("cls", "count", "names"), [(WEncoder, 31_212_736, 387), (NaiveWPlusEncoder, 48_524_480, 394)])
def test_into_w(cls: type[WEncoder], count: int, names: int) -> None:
    with torch.device("meta"):
        encoder = cls(WEncoderConfig(num_ws=18))
        assert encoder.offsets(torch.empty(2, 3, 256, 256)).shape == (2, 18, 512)
    assert (parameters(encoder), keys(encoder)) == (count, names)


@pytest.mark.seconds
@pytest.mark.parametrize(("resolution", "count"), [(1024, 332_664_896), (512, 325_188_672), (256, 312_984_640)])
def test_hypernetwork(resolution: int, count: int) -> None:
    """The default layers: every convolution of a generator of channel multiplier 2, without toRGB."""
    with torch.device("meta"):
        network = HyperNetwork(conv_shapes(resolution))
        codes = network(torch.empty(2, 6, 256, 256))
    assert parameters(network) == count
    assert {tuple(code.shape) for code in codes.values()} == {(2, 512)}


def conv_shapes(resolution: int) -> dict[str, Shape]:
    widths = [{128: 256, 256: 128, 512: 64, 1024: 32}.get(4 * 2**b, 512) for b in range(resolution.bit_length() - 2)]
    shapes: dict[str, Shape] = {"convs.0": (widths[0], widths[0], 3, 3)}
    for b in range(1, len(widths)):
        shapes[f"convs.{2 * b - 1}"] = (widths[b], widths[b - 1], 3, 3)
        shapes[f"convs.{2 * b}"] = (widths[b], widths[b], 3, 3)
    return shapes


def test_padinv() -> None:
    shape = {"kind": "psp", "resolution": 256, "num_ws": 18, "w_dim": 512, "backbone": "ir-se-50"}
    given = {"encoder": shape, "num_ws": 18, "const_channels": 512, "ring_channels": (512,) * 4, "relative": False}
    with torch.device("meta"):
        padinv = PadInv(PadInvConfig.model_validate(given))
        const, rings = padinv.padding(torch.empty(1, 512, 32, 32))
    assert parameters(padinv) == 277_695_168
    assert len(padinv.state_dict()) == 659 + 1  # its mean latent is the generator's
    assert const.shape == (1, 512, 4, 4)
    assert sum(ring.shape[1] * ring.shape[2] for ring in rings.values()) + const.numel() == 139_264


@pytest.mark.parametrize("layer", ["torgbs.0", "torgbs.2"])
def test_a_hypernetwork_with_torgb_layers(layer: str) -> None:
    """Such a layer's branch has four convolutions of stride 2, from 16x16 to 1x1."""
    with torch.device("meta"):
        network = HyperNetwork({layer: (3, 512, 1, 1)})
        (code,) = network(torch.empty(1, 6, 256, 256)).values()
        offset = network.heads[f"{layer}.weight"](code, torch.ones(1, device="meta"))
    assert offset.shape == (1, 3, 512, 1, 1)
    own = parameters(network) - parameters(network.trunk)
    assert own == 9 * 256 * (512 + 256 + 256 + 512) + 3 * 256 + 512 + (512 + 1) * 3 * 512


@pytest.mark.seconds
def test_hfgi() -> None:
    with torch.device("meta"):
        aligner, consultant = ResidualAligner(), ConsultationEncoder()
        assert aligner(torch.empty(1, 6, 256, 256)).shape == (1, 3, 256, 256)
        scale, shift = consultant(torch.empty(1, 3, 256, 256))
    assert scale.shape == shift.shape == (1, 512, 64, 64)
    assert (parameters(aligner), len(aligner.state_dict())) == (596_801, 295)
    assert (parameters(consultant), len(consultant.state_dict())) == (5_647_344, 105)


def test_in_domain() -> None:
    with torch.device("meta"):
        encoder = InDomainEncoder(InDomainConfig())
        assert encoder.offsets(torch.empty(2, 3, 256, 256)).shape == (2, 14, 512)
    assert encoder.linear.weight.shape == (7168, 16384)
    norms = sum(parameters(m) for m in encoder.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d))
    assert round((parameters(encoder) - norms) / 1e6, 1) == 165.3


@pytest.mark.seconds
@pytest.mark.parametrize(("trunk", "channels"), [(IRSE50, 3), (ResNet34, 6)])
def test_maps(trunk: Any, channels: int) -> None:
    with torch.device("meta"):
        network = trunk(channels)
        square = [tuple(m.shape[1:]) for m in network(torch.empty(1, channels, 256, 256))]
        cars = [tuple(m.shape[2:]) for m in network(torch.empty(1, channels, 192, 256))]
    assert square == [(512, 16, 16), (256, 32, 32), (128, 64, 64)]
    assert cars == [(12, 16), (24, 32), (48, 64)]


@pytest.mark.seconds
def test_cars_have_their_own_shape() -> None:
    encoder = rows(E4e, 16, backbone="ir-se-50", input_height=192)
    assert encoder.latents(torch.empty(2, 3, 512, 512, device="meta")).shape == (2, 16, 512)
    assert encoder.offsets(torch.empty(2, 3, 192, 256, device="meta")).shape == (2, 16, 512)


def test_a_head_refuses_a_map_that_is_too_large() -> None:
    """The published code would take a 2x2 rest for four images."""
    head = Map2Style(8, 16, 8)
    assert head(torch.zeros(2, 8, 12, 16)).shape == (2, 8)
    with pytest.raises(ValueError, match=r"a map of \(32, 32\)"):
        head(torch.zeros(2, 8, 32, 32))


def test_pyramid_and_its_absence_decide_which_map_a_row_reads() -> None:
    assert rows(Psp, 10, backbone="ir-se-50").levels == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert rows(Psp, 10, backbone="ir-se-50", pyramid=False).levels == [0] * 10


def test_shapes_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="small backbone always has its pyramid"):
        PspConfig(resolution=64, num_ws=10, w_dim=128, pyramid=False)
    with pytest.raises(ValueError, match="cannot give w_dim 64"):
        PspConfig(resolution=256, num_ws=10, w_dim=64, backbone="ir-se-50")


def test_inputs_are_brought_to_size() -> None:
    images = torch.rand(1, 3, 64, 64)
    assert fit(images, (64, 64)) is images
    assert fit(images, (32, 32)).shape == pool(images, (32, 32)).shape == (1, 3, 32, 32)
    torch.testing.assert_close(pool(images, (32, 32))[0, 0, 0, 0], images[0, 0, :2, :2].mean())
    rows_of = torch.arange(512.0)[:, None].expand(1, 1, 512, 512)
    assert band(rows_of, (192, 256))[0, 0, [0, -1], 0].tolist() == [64.0, 447.0]
