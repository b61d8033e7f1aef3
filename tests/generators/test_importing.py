"""Weights from elsewhere in a store, and out of it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ganinv.codes.code import Code
from ganinv.errors import ConfigError, GeneratorMismatch, RunConflict, WeightsRefused
from ganinv.generators.catalogue import Source
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.files import EMBEDDED, open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.files import open_inverter
from ganinv.store import Store, open_store
from ganinv.weights import importing
from ganinv.weights.importing import _default_name, export_generator, import_weights
from tests.encoders.outlines import outline
from tests.tiny import tiny_generator


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.mark.seconds
def test_a_generator_comes_to_the_store_as_it_is(made: Path, store: Store) -> None:
    file = str(made / "nvidia/ada_r64_cond3_fp16.pkl")
    (one,) = import_weights(file, store)
    assert (one.kind, one.name, one.already) == ("generator", "ada_r64_cond3_fp16", False)
    assert one.uri == f"{store.url}/generators/ada_r64_cond3_fp16"
    assert store.list("generators") == ["ada_r64_cond3_fp16"]
    theirs, ours = open_generator(file), open_generator(one.uri)
    assert ours.fingerprint == theirs.fingerprint == one.fingerprint
    assert ours.cfg == theirs.cfg
    assert ours.name == one.name
    w = theirs.map(torch.randn(2, 64), torch.eye(3)[:2])
    assert torch.equal(ours.synthesize(Code(w=w)), theirs.synthesize(Code(w=w)))
    assert ours.discriminator is not None


@pytest.mark.seconds
def test_where_it_comes_from_is_not_forgotten(made: Path, store: Store) -> None:
    file = str(made / "rosinality/ros_r32_train_ckpt.pt")
    (one,) = import_weights(file, store, "first")
    first = open_generator(one.uri).provenance
    assert first is not None
    assert (first.layout, first.origin["layout"], first.origin["uri"]) == ("ganinv", "rosinality", file)
    assert first.origin["sha256"] == one.origin["sha256"] == open_generator(file).provenance.sha256  # type: ignore[union-attr]
    assert first.origin["computed"]["w_mean"] == {"samples": 10_000, "seed": 123}
    (copy,) = import_weights(one.uri, store, "second")
    second = open_generator(copy.uri).provenance
    assert second is not None
    assert second.origin == first.origin


def test_again_it_stands_there_and_another_is_refused(store: Store, tmp_path: Path) -> None:
    for seed in (0, 1):
        save_generator(tiny_generator(16, seed), str(tmp_path / f"{seed}.pt"), "nvidia")
    (one,) = import_weights(str(tmp_path / "0.pt"), store, "g")
    (again,) = import_weights(str(tmp_path / "0.pt"), store, "g")
    assert (one.already, again.already) == (False, True)
    assert (one.uri, one.fingerprint) == (again.uri, again.fingerprint)
    with pytest.raises(RunConflict, match="holds other weights already"):
        import_weights(str(tmp_path / "1.pt"), store, "g")
    assert open_generator(one.uri).fingerprint == one.fingerprint


def test_the_same_weights_without_their_discriminator_are_another_content(store: Store, tmp_path: Path) -> None:
    g = tiny_generator(16)
    save_generator(g, str(tmp_path / "with.pt"), "nvidia")
    g.discriminator = None
    save_generator(g, str(tmp_path / "without.pt"), "nvidia")
    import_weights(str(tmp_path / "with.pt"), store, "g")
    with pytest.raises(RunConflict, match="differ in files"):
        import_weights(str(tmp_path / "without.pt"), store, "g")


@pytest.mark.seconds
def test_a_named_network_and_a_name_of_its_own(made: Path, store: Store) -> None:
    file = str(made / "nvidia/ada_r32_uncond.pkl")
    (raw,) = import_weights(file, store, "raw", network="G")
    assert raw.fingerprint == open_generator(file, network="G").fingerprint != open_generator(file).fingerprint
    with pytest.raises(ConfigError, match="cannot be used as a name in the store"):
        import_weights(file, store, "a/b")


def test_the_embedded_generator_and_a_store_in_memory() -> None:
    store = open_store("memory://imported")
    (one,) = import_weights(EMBEDDED, store)
    assert one.uri == "memory://imported/generators/portraits-64" or one.uri.endswith(
        "imported/generators/portraits-64"
    )
    assert open_generator(one.uri).fingerprint == open_generator().fingerprint


def test_what_is_refused_leaves_nothing(made: Path, store: Store) -> None:
    for name in ("nan_weights.pt", "quota_page.pkl", "touch_open.pkl"):
        with pytest.raises(WeightsRefused):
            import_weights(str(made / "bad" / name), store)
    with pytest.raises(WeightsRefused, match="no generator at"):
        import_weights("nowhere", store)
    with pytest.raises(WeightsRefused, match="is not a published encoder checkpoint"):
        import_weights(EMBEDDED, store, only="encoder")
    assert store.list("generators") == []


@pytest.mark.seconds
def test_a_published_encoder_is_bound_to_its_generator(made: Path, store: Store, tmp_path: Path) -> None:
    file = str(made / "encoders/idinvert_encoder_r64.pth")
    width = torch.load(file, weights_only=True)["block5.fc.weight"].shape[0] // 10
    torch.manual_seed(0)
    cfg = GeneratorConfig(resolution=64, channels=(8,) * 5, z_dim=16, w_dim=width, mapping_layers=1)
    save_generator(Generator(cfg), str(tmp_path / "g.pt"), "nvidia")
    g = open_generator(str(tmp_path / "g.pt"))
    with pytest.raises(WeightsRefused, match="has no decoder, and an encoder in our format is bound to its generator"):
        import_weights(file, store, "id")
    with pytest.raises(GeneratorMismatch):
        import_weights(file, store, "id", generator=EMBEDDED)
    (one,) = import_weights(file, store, "id", generator=str(tmp_path / "g.pt"))
    assert (one.kind, one.uri) == ("encoder", f"{store.url}/encoders/id")
    assert one.origin["method"] == "in-domain"
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    ours, theirs = open_inverter(one.uri, generator=g), open_inverter(file, generator=g)
    assert torch.equal(ours(images).w, theirs(images).w)
    (again,) = import_weights(file, store, "id", generator=str(tmp_path / "g.pt"))
    assert again.already
    with pytest.raises(WeightsRefused, match="an encoder in our format already"):
        import_weights(one.uri, store, "copy")


def published(file: Path, state: dict[str, Any], opts: dict[str, Any]) -> str:
    torch.save({"state_dict": state, "opts": opts}, file)
    return str(file)


def test_an_encoder_without_a_generator(store: Store, tmp_path: Path) -> None:
    hyper = published(tmp_path / "h.pt", {"hypernet.a.weight": torch.zeros(1)}, {"output_size": 64})
    with pytest.raises(WeightsRefused, match=r"there is no decoder\.\* whose weights it changes"):
        import_weights(hyper, store)


def test_an_encoder_that_cannot_be_told(store: Store, tmp_path: Path) -> None:
    file = published(tmp_path / "e.pt", {"encoder.styles.5.linear.weight": torch.zeros(1)}, {})
    with pytest.raises(WeightsRefused, match="do not name the encoder type"):
        import_weights(file, store)


def encoder_with_decoder(file: Path) -> Generator:
    """A checkpoint of the W encoder: weights of its encoder are zero, those of its decoder are not. The decoder."""
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(resolution=32, channels=(8,) * 4, mapping_layers=1)).eval()
    g.measure_w(1000)
    save_generator(g, str(file), "rosinality")
    tree = outline("psp_w_r32", "encoder.", "cpu")
    tree["state_dict"] |= {f"decoder.{name}": t for name, t in torch.load(file, weights_only=False)["g_ema"].items()}
    torch.save({**tree, "opts": tree["opts"] | {"lr": 1e-4}, "latent_avg": g.w_mean[None]}, file)
    return g


def test_an_encoder_that_is_refused_leaves_no_decoder(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused:
        """A checkpoint with its decoder, of an encoder that starts from another, which was not given."""

        generator, expects = object(), dict[str, str]()

        def inverter(self, generator: Generator, needed: object) -> None:
            raise ConfigError("give it with --needed")

    save_generator(tiny_generator(16), str(tmp_path / "e.pt"), "nvidia")
    monkeypatch.setattr(importing, "open_encoder_checkpoint", lambda *_, **__: Refused())
    with pytest.raises(ConfigError, match="give it with --needed"):
        importing._import_encoder(Source(str(tmp_path / "e.pt")), store, "e", None, None, None, {})
    assert store.list("generators") == []


@pytest.mark.slow
def test_an_encoder_comes_with_its_decoder(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "psp.pt"
    decoder = encoder_with_decoder(file)
    generator, encoder = import_weights(str(file), store)
    assert [generator.kind, encoder.kind] == ["generator", "encoder"]
    assert generator.fingerprint == decoder.fingerprint
    assert encoder.origin["opts"]["lr"] == 1e-4
    g = open_generator(generator.uri)
    images = torch.rand(1, 3, 256, 256) * 2 - 1
    ours = open_inverter(encoder.uri, generator=g)(images)  # bound to the generator's fingerprint
    assert torch.equal(ours.w, open_inverter(str(file), generator=g)(images).w)
    assert all(one.already for one in import_weights(str(file), store))
    (alone,) = import_weights(str(file), store, "alone", only="generator")
    assert alone.fingerprint == generator.fingerprint


@pytest.mark.parametrize("format", ["ganinv", "rosinality", "nvidia"])
def test_export_and_back(tmp_path: Path, format: Any) -> None:
    save_generator(tiny_generator(16), str(tmp_path / "g.pt"), "nvidia")
    to = str(tmp_path / "out" / format)
    export_generator(str(tmp_path / "g.pt"), to, format)
    assert open_generator(to).fingerprint == tiny_generator(16).fingerprint
    with pytest.raises(ConfigError, match="there is something at"):
        export_generator(str(tmp_path / "g.pt"), to, format)
    export_generator(str(tmp_path / "g.pt"), to, format, overwrite=True)


def test_export_says_what_a_format_cannot_hold(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the rosinality layout cannot hold this generator: it is conditional"):
        export_generator(str(made / "nvidia/ada_r64_cond3_fp16.pkl"), str(tmp_path / "g.pt"), "rosinality")
    assert not (tmp_path / "g.pt").exists()


def test_an_export_keeps_the_origin_but_not_the_folders_of_this_machine(made: Path, tmp_path: Path) -> None:
    export_generator(str(made / "rosinality/ros_r32_narrow.pt"), str(tmp_path / "g"))
    assert json.loads((tmp_path / "g/config.json").read_text())["origin"]["uri"] == "ros_r32_narrow.pt"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/stylegan2-ffhq-512x512.pkl?download=1", "stylegan2-ffhq-512x512"),
        ("s3://bucket/models/v1.5/", "v1.5"),
        ("my faces (new).pt", "my-faces-new"),
        ("what?.pt", "what"),
    ],
)
def test_names_follow_from_files(url: str, name: str) -> None:
    assert _default_name(Source(url)) == name
