"""What ships names what else ships, and does not hold it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.inversion import encoders
from benchmarks.inversion.encoders import SHIPPED, name_what_ships
from ganinv.generators.files import open_generator
from ganinv.methods import files
from ganinv.methods.base import Inverter
from ganinv.methods.files import ASSETS, open_inverter, save_inverter
from ganinv.methods.hfgi import Hfgi, HfgiConfig


@pytest.mark.seconds
def test_an_inverter_names_what_ships(tmp_path: Path) -> None:
    g = open_generator("portraits-64")
    shipped = open_inverter("e4e", generator=g)
    save_inverter(shipped, str(tmp_path / "trained"), generator=g)
    trained = open_inverter(str(tmp_path / "trained"), generator=g)
    torch.manual_seed(0)
    made: Inverter = Hfgi(HfgiConfig.model_validate(HfgiConfig.for_generator(g, {})), g, {"encoder": trained})
    save_inverter(made, str(tmp_path / "before"), generator=g, dtype="float16")
    assert {path.name for path in (tmp_path / "before").glob("*.safetensors")} == {
        "inverter.safetensors",
        "inverter.encoder.safetensors",
    }
    name_what_ships(made, {"encoder": "e4e", "other": "e4e"})
    save_inverter(made, str(tmp_path / "after"), generator=g, dtype="float16")
    assert [path.name for path in (tmp_path / "after").glob("*.safetensors")] == ["inverter.safetensors"]
    needs = json.loads((tmp_path / "after/config.json").read_text())["needs"]
    assert needs == {"encoder": {"fingerprint": shipped.fingerprint, "name": "e4e"}}
    assert open_inverter(str(tmp_path / "after"), generator=g).need("encoder").uri == "e4e"


def test_weights_are_written_once_and_what_was_measured_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inverter = open_inverter("w", generator=open_generator("portraits-64"))
    measured, saved = {"samples": 0.1, "train": 0.2, "test": 0.3}, list[str]()

    def saving(inverter: Inverter, uri: str, **more: Any) -> None:
        saved.append(uri)
        save_inverter(inverter, uri, **more)

    for module in (encoders, files):
        monkeypatch.setattr(module, "ASSETS", tmp_path)
    monkeypatch.setattr(encoders, "save_inverter", saving)
    monkeypatch.setattr(encoders, "measure", lambda *_: measured)
    monkeypatch.setattr(encoders, "picture", lambda *_: b"drawn")
    encoders.write("w", inverter, 60.0, "portraits")
    assert saved == [str(tmp_path / "w")]
    record = json.loads((tmp_path / "w/config.json").read_text())
    assert (record["measured"], record["seconds"]) == (measured, 60)
    assert record["inverter"]["kind"] == inverter.cfg.kind
    assert "| portraits of the test split | 0.3 |" in (tmp_path / "w/MODEL_CARD.md").read_text()


@pytest.mark.parametrize("name", SHIPPED)
def test_what_ships_is_small(name: str) -> None:
    weights = list((ASSETS / name).glob("*.safetensors"))
    assert sum(file.stat().st_size for file in weights) <= SHIPPED[name].limit * 2**20
