"""Generator folders: round trips, and everything that is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.generators.files import open_generator, save_generator
from tests.tiny import random_w, tiny_generator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_generator(tiny_generator(), str(tmp_path / "g"))
    return tmp_path / "g"


def test_round_trip_is_exact(folder: Path) -> None:
    g, again = tiny_generator(), open_generator(str(folder))
    assert again.fingerprint == g.fingerprint
    assert again.name == "tiny"
    code = Code(w=random_w(g, 2))
    torch.testing.assert_close(g.synthesize(code), again.synthesize(code))
    assert again.discriminator is not None
    assert not any(p.requires_grad for p in again.parameters())


def test_half_precision_has_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    g = tiny_generator()
    save_generator(g, str(tmp_path / "h"), half=True)
    once = open_generator(str(tmp_path / "h"))
    assert once.fingerprint != g.fingerprint
    save_generator(once, str(tmp_path / "again"), half=True)
    assert open_generator(str(tmp_path / "again")).fingerprint == once.fingerprint


def test_opens_from_any_fsspec_url() -> None:
    save_generator(tiny_generator(), "memory://generators/tiny")
    assert open_generator("memory://generators/tiny").fingerprint == tiny_generator().fingerprint


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match=r"no generator at .*expected a folder with config.json"):
        open_generator(str(tmp_path / "none"))


def test_not_json(folder: Path) -> None:
    (folder / "config.json").write_text("<html>quota exceeded</html>")
    with pytest.raises(WeightsRefused, match="not JSON"):
        open_generator(str(folder))


def test_truncated_weights(folder: Path) -> None:
    file = folder / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsRefused, match="not a whole safetensors file"):
        open_generator(str(folder))


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    file = folder / "generator.safetensors"
    state = load_file(file) | {k: v for k, v in tensors.items() if v is not None}
    save_file({k: v for k, v in state.items() if k not in tensors or tensors[k] is not None}, file)


def test_missing_tensor(folder: Path) -> None:
    change(folder, **{"synthesis.const": None})
    with pytest.raises(WeightsRefused, match=r"missing \['synthesis.const'\]"):
        open_generator(str(folder))


def test_wrong_shape(folder: Path) -> None:
    change(folder, **{"synthesis.const": torch.zeros(3, 4, 4)})
    with pytest.raises(WeightsRefused, match=r"synthesis.const has shape \(3, 4, 4\), expected \(16, 4, 4\)"):
        open_generator(str(folder))


def test_nan(folder: Path) -> None:
    change(folder, **{"synthesis.const": torch.full((16, 4, 4), float("nan"))})
    with pytest.raises(WeightsRefused, match="not finite"):
        open_generator(str(folder))


def test_unknown_key_in_config(folder: Path) -> None:
    meta = json.loads((folder / "config.json").read_text())
    meta["generator"]["resolutoin"] = 32
    (folder / "config.json").write_text(json.dumps(meta))
    with pytest.raises(ConfigError, match=r"unknown key 'resolutoin', did you mean 'resolution'"):
        open_generator(str(folder))


def test_a_pickle_is_not_opened(folder: Path, tmp_path: Path) -> None:
    torch.save({"synthesis.const": torch.zeros(1)}, folder / "generator.safetensors")
    with pytest.raises(WeightsRefused, match="not a whole safetensors file"):
        open_generator(str(folder))


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_a_config_that_claims_gigabytes(folder: Path, network: str) -> None:
    """Refused by the size of the file, before memory is asked for."""
    meta = json.loads((folder / "config.json").read_text())
    if not isinstance(meta[network], dict):
        meta[network] = {k: meta["generator"][k] for k in ("resolution", "channels", "img_channels")}
    meta[network]["channels"] = [20_000] * len(meta[network]["channels"])
    (folder / "config.json").write_text(json.dumps(meta))
    with pytest.raises(WeightsRefused, match=r"would take \d{12} bytes, out of proportion"):
        open_generator(str(folder))


def test_a_config_of_endless_depth(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' + "[" * 200_000)
    with pytest.raises(WeightsRefused, match="not JSON"):
        open_generator(str(folder))
