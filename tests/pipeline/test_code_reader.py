"""Methods whose codes are more than a latent, from an image through the store to a rendered edit, through every reader."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from flows.render import render_latents
from ganinv.codes.code import Code, Feature, HeadCode
from ganinv.data.dataset import open_dataset
from ganinv.data.png import png_bytes
from ganinv.directions.direction import Direction
from ganinv.errors import DataError, WeightsRefused
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.methods.files import open_inverter, save_inverter
from ganinv.methods.hfgi import Hfgi, HfgiConfig
from ganinv.methods.hyperstyle import HyperStyle, HyperStyleConfig
from ganinv.methods.psp import Psp, PspConfig
from ganinv.records import CodeReader, RecordConfig, code_to_table, table_to_code
from ganinv.records.record import decode
from ganinv.stages.method import load_method
from ganinv.store import Plan, Store, open_store
from ganinv.target import Target
from tasks.engine import Engine, open_pools
from tasks.jobs.dataset import DatasetRef
from tasks.steps.compress import CompressJob, run_compress
from tasks.steps.edit import EditJob, EditSpec, run_edit
from tasks.steps.evaluate import EvaluateJob, run_evaluate
from tasks.steps.invert import InvertJob, run_invert
from tasks.steps.label import LabelJob, run_label
from tasks.steps.report import ReportJob, run_report
from tests.tiny import random_w, tiny_generator

EXACT = RecordConfig(dtype="float32")
METHOD = """
name: {name}
summary: a test
space: w+
distance: mse
stages: {stages}
"""


@dataclass(frozen=True)
class Place:
    """A store with two trained inverters, and a folder with three images.

    Attributes:
        store: its URL. generator: the folder of the generator. methods: name -> YAML.
    """

    store: str
    generator: str
    images: Path
    methods: Mapping[str, str]

    @property
    def root(self) -> Store:
        return open_store(self.store)

    def job(self, method: str, **more: Any) -> InvertJob:
        fields = {"dataset": DatasetRef(url=str(self.images)), "generator": self.generator, "record": EXACT}
        return InvertJob(store=self.store, method=self.methods[method], **fields | more)


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return filled(store_url(request, tmp_path), tmp_path)


def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('s3_environment')}/{tmp_path.name}"


def filled(url: str, folder: Path) -> Place:
    g = tiny_generator(64)
    save_generator(g, str(folder / "generator"))
    g = open_generator(str(folder / "generator"))
    for name, inverter in {"hyper": hyperstyle(g), "consult": hfgi(g)}.items():
        save_inverter(inverter, f"{url}/encoders/{name}", generator=g, dtype="float16")
    (folder / "images").mkdir()
    for k, image in enumerate(g.render(Code(random_w(g, 3)))):
        (folder / "images" / f"face-{k}.png").write_bytes(png_bytes(image))
    stages = {
        "hyper": "[{kind: encode, encoder: hyper, steps: 2}]",
        "consult": "[{kind: encode, encoder: consult}]",
        "consult-again": "[{kind: encode, encoder: consult, start: code}]",
        "go-on": "[{kind: optimize, space: w+, start: code, steps: 1, latent_noise: 0.0}]",
    }
    methods = {}
    for name, text in stages.items():
        path = folder / f"{name}.yaml"
        path.write_text(METHOD.format(name=name, stages=text))
        methods[name] = str(path)
    root, rng = open_store(url), np.random.default_rng(0)
    vector = rng.normal(size=g.w_dim)
    root.directions.put(Direction("smile", vector / np.linalg.norm(vector), "w", g.name, g.fingerprint, "test"))
    return Place(url, str(folder / "generator"), folder / "images", methods)


def encoder(g: Generator, seed: int) -> Psp:
    """One whose codes differ from image to image."""
    torch.manual_seed(seed)
    cfg = PspConfig(resolution=64, num_ws=g.num_ws, w_dim=g.w_dim, base_channels=8, pyramid_channels=8)
    made = Psp(cfg, g)
    for parameter in made.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    made.latent_avg.copy_(g.w_mean)
    return made.eval().requires_grad_(False)


def hyperstyle(g: Generator) -> HyperStyle:
    torch.manual_seed(1)
    layers = {n: tuple(g.synthesis.get_parameter(f"{n}.weight").shape) for n in ("convs.3",)}
    small = {"trunk": "small", "resolution": 64, "base_channels": 8, "pyramid_channels": 8}
    cfg = HyperStyleConfig.model_validate({**small, "layers": layers, "num_ws": g.num_ws, "w_dim": g.w_dim, "steps": 2})
    made = HyperStyle(cfg, g, {"w_encoder": encoder(g, 2)})
    made.latent_avg.copy_(g.w_mean)
    return made.eval().requires_grad_(False)


def hfgi(g: Generator) -> Hfgi:
    torch.manual_seed(3)
    cfg = HfgiConfig(input_height=64, input_width=64, channels=g.cfg.channels[4])
    made = Hfgi(cfg, g, {"encoder": encoder(g, 4)}).eval().requires_grad_(False)
    for parameter in made.parameters():  # untrained, it adds nothing
        if not parameter.any():
            parameter.normal_(std=0.1)
    return made


def run(step: Any, job: Any) -> dict[str, Any]:
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        result: dict[str, Any] = step(job, pools)
    return result


def made_by(place: Place, method: str) -> tuple[Generator, Code, Target]:
    """What the method makes of the images, in this process and with no store."""
    g = open_generator(place.generator)
    data = open_dataset(str(place.images))
    loaded = data.load(data.ids, g.resolution)
    target = Target(loaded.images, loaded.ids)
    opened = load_method(
        place.methods[method], g, open_inverter=lambda name: open_inverter(name, generator=g, store=place.root)
    )
    return g, opened.invert(target).code, target


def by_duckdb(place: Place, kind: str, name: str, columns: str, folder: Path) -> list[tuple[Any, ...]]:
    """Rows of the parts, as a person with DuckDB alone reads them. Parts of S3 are copied first."""
    collection = place.root.collection(kind, name)
    for index in collection.done():
        file = f"{collection.path}/part-{index:05d}.parquet"
        (folder / f"{name}-{index}.parquet").write_bytes(collection.objects.read(file))
    return duckdb.sql(f"select {columns} from '{folder}/{name}-*.parquet' order by image_id").fetchall()


def pictures(folder: Path) -> dict[str, Tensor]:
    """Name without ending -> [3, R, R] in [-1, 1] of PNG files."""
    found = {}
    for path in sorted(folder.glob("*.png")):
        values = torch.from_numpy(np.asarray(Image.open(path)).copy())
        found[path.stem] = values.permute(2, 0, 1).float() / 127.5 - 1
    return found


@pytest.mark.seconds
@pytest.mark.parametrize(("place", "method"), [("local", "hyper"), ("s3", "consult")], indirect=["place"])
def test_what_a_row_renders_is_what_the_run_rendered(place: Place, method: str, tmp_path: Path) -> None:
    """Image, ``invert``, Parquet, DuckDB, rendering; and every step that reads codes gives numbers of the same pictures."""
    assert run(run_invert, place.job(method))["rows"] == 3
    g, code, target = made_by(place, method)
    own = g.render(code)
    assert (own - g.render(Code(code.w))).abs().amax(dim=(1, 2, 3)).min() > 1e-2  # its extras show
    store = place.root
    collection = store.latents[method]
    reader = CodeReader(store, collection, g)
    torch.testing.assert_close(g.render(reader.codes(collection.read())), own, atol=1e-4, rtol=0)

    rows = by_duckdb(place, "latents", method, "image_id, w, extras_uri, extras_holds, stored_mse", tmp_path)
    holds = {"hyper": ["scales"], "consult": ["features"]}[method]
    for k, (image_id, w, uri, held, mse) in enumerate(rows):
        assert (image_id, held) == (target.ids[k], holds)
        latent = torch.tensor(w).reshape(1, g.num_ws, g.w_dim)
        alone = reader.bound(Code(latent, **decode(store.objects.read(uri))))
        torch.testing.assert_close(g.render(alone)[0], own[k], atol=1e-4, rtol=0)
        assert float((own[k] - target.images[k]).square().mean()) == pytest.approx(mse, rel=1e-3)

    assert render_latents(place.store, method, tmp_path / "out", None, place.generator) == 3
    for k, image in enumerate(pictures(tmp_path / "out").values()):
        assert (image - own[k].clamp(-1, 1)).abs().max() < 1.01 / 255  # half a grey level

    latents = {"store": place.store, "latents": method, "generator": place.generator}
    run(run_compress, CompressJob(**latents, name="small", record=RecordConfig(dtype="float16"), distance="mse"))
    again = CodeReader(store, store.latents["small"], g).codes(store.latents["small"].read())
    torch.testing.assert_close(g.render(again), own, atol=2e-2, rtol=0)


SMILE = EditSpec(name="smile", directions={"smile": 1.0}, strengths=(0.0, 3.0))


def step(place: Place) -> Tensor:
    """What ``smile`` adds to w at strength 3: [w_dim]."""
    direction = place.root.directions.get("smile")
    return 3.0 * torch.from_numpy(np.array(direction.vector, np.float32)) * direction.unit


@pytest.mark.seconds
@pytest.mark.parametrize("place", ["s3"], indirect=True)  # on local files: test_a_photo_that_is_gone, and the contracts
def test_an_edit_that_looks_at_the_photo_again(place: Place, tmp_path: Path) -> None:
    """An edit of HFGI is consulted again: what its row renders is what the method makes of the edited latent."""
    run(run_invert, place.job("consult"))
    g, code, target = made_by(place, "consult")
    job = EditJob(store=place.store, latents="consult", generator=place.generator, edits=(SMILE,), images="shards")
    assert run(run_edit, job)["rows"] == 6

    inverter = open_inverter("consult", generator=g, store=place.root)
    assert isinstance(inverter, Hfgi)
    moved = code.with_w(code.w + step(place))
    with torch.no_grad():
        wanted = inverter.consult(target.images, replace(code, features=None), replace(moved, features=None))
    own, edited, kept = g.render(code), g.render(wanted), g.render(moved)
    assert (edited - kept).abs().amax(
        dim=(1, 2, 3)
    ).min() > 2e-3  # the conditions of the inversion are not those of the edit

    table = place.root.edits["edits"].read()
    reader = CodeReader(place.root, place.root.edits["edits"], g)
    rendered = g.render(reader.codes(table))
    torch.testing.assert_close(rendered[1::2], edited, atol=2e-4, rtol=0)
    torch.testing.assert_close(rendered[::2], own, atol=2e-4, rtol=0)
    shown = [
        np.asarray(Image.open(io.BytesIO(png))).astype(float) / 127.5 - 1 for png in table["image_png"].to_pylist()
    ]
    for image, picture in zip(rendered, shown, strict=True):
        assert np.abs(picture - image.clamp(-1, 1).permute(1, 2, 0).numpy()).max() < 1.01 / 255
    # An edit of strength 0 has the object of the inversion; the others have one of their own.
    assert ["edits/" in uri for uri in table["extras_uri"].to_pylist()] == [False, True] * 3
    for image_id, _, uri in by_duckdb(place, "edits", "edits", "image_id, strength, extras_uri", tmp_path):
        assert decode(place.root.objects.read(uri))["features"].keys() == {"act[7]"}, image_id

    render_latents(place.store, "consult", tmp_path / "out", ["face-1"], place.generator, ["smile=3"])
    picture = pictures(tmp_path / "out")["face-1@smile=3"]
    assert (picture - edited[1].clamp(-1, 1)).abs().max() < 1.01 / 255


@pytest.fixture(scope="module")
def inverted(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store in which both methods have been run. Not to be changed."""
    folder = tmp_path_factory.mktemp("inverted")
    place = filled(str(folder / "store"), folder)
    for method in ("hyper", "consult"):
        run(run_invert, place.job(method))
    return place


@pytest.fixture
def own(inverted: Place, tmp_path: Path) -> Place:
    """A copy of it elsewhere: store, images and generator have moved."""
    shutil.copytree(Path(inverted.store).parent, tmp_path / "moved")
    methods = {name: str(tmp_path / "moved" / Path(path).name) for name, path in inverted.methods.items()}
    return Place(str(tmp_path / "moved/store"), str(tmp_path / "moved/generator"), tmp_path / "moved/images", methods)


@pytest.mark.seconds
def test_a_photo_that_is_gone_is_one_row_of_errors(own: Place) -> None:
    """The edits of the other images are there, and the inversion without an edit still renders."""
    run(run_invert, own.job("consult", name="mine"))
    (own.images / "face-1.png").unlink()
    job = EditJob(store=own.store, latents="mine", generator=own.generator, edits=(SMILE,), images="none")
    result = run(run_edit, job)
    assert (result["rows"], result["failed"]) == (4, 1)
    (error,) = own.root.edits["edits"].errors().to_pylist()
    assert (error["image_id"], error["code"]) == ("face-1", "missing")
    assert error["message"].startswith("an edit of it needs its image again: ")
    assert render_latents(own.store, "mine", own.images / "out", ["face-1"], own.generator) == 1
    with pytest.raises(DataError, match=r"an edit of 'face-1' looks at its photo again: .*is gone now"):
        render_latents(own.store, "mine", own.images / "out", ["face-1"], own.generator, ["smile=3"])


@pytest.mark.seconds
def test_every_step_reads_codes_with_heads(own: Place) -> None:
    """Scores and metrics of codes that are nothing without the hypernetwork are those of the pictures it makes."""
    g, code, target = made_by(own, "hyper")
    rendered = g.render(code)
    labeller = open_labeller("portraits-64")
    base = {"store": own.store, "generator": own.generator}
    run(run_label, LabelJob(**base, name="scores", samples="hyper", source="latents", labeller="portraits-64"))
    labels, scores = own.root.collection("labels", "scores").read(), labeller(rendered)
    name = next(iter(labeller.attributes))
    np.testing.assert_allclose(labels[f"score_{name}"].to_numpy(), scores[name].numpy(), atol=1e-3)

    run(run_edit, EditJob(**base, latents="hyper", edits=(SMILE,), images="none"))
    run(run_evaluate, EvaluateJob(**base, latents="hyper", edits="edits", distance="mse"))
    metrics = own.root.metrics["hyper"].read()["mse"].to_numpy()
    np.testing.assert_allclose(
        metrics, (rendered.clamp(-1, 1) - target.images).square().mean((1, 2, 3)).numpy(), rtol=1e-3
    )
    edited = labeller(g.render(code.with_w(code.w + step(own))))
    measured = own.root.collection("edit-metrics", "edits").read()[f"score_{name}"].to_numpy()
    np.testing.assert_allclose(measured[1::2], edited[name].numpy(), atol=1e-3)
    # Its weight offsets stay: the edits have the objects of the inversions.
    uris = own.root.edits["edits"].read()["extras_uri"].to_pylist()
    assert uris[::2] == uris[1::2] == own.root.latents["hyper"].read()["extras_uri"].to_pylist()

    html = run(run_report, ReportJob(**base, latents=("hyper",), edits="edits"))
    page = open_store(own.store).objects.read("reports/report.html").decode()
    assert html["bytes"] == len(page.encode())
    assert page.count("data:image/png") >= 3 * 3  # sources, inversions and edits


@pytest.mark.seconds
def test_an_inverter_that_is_gone_or_another_is_told_in_one_sentence(own: Place) -> None:
    g = open_generator(own.generator)
    latents = own.root.latents["hyper"]
    (Path(own.store) / "encoders/hyper").rename(Path(own.store) / "elsewhere")
    table = latents.read()
    gone = r"latents 'hyper' were made by inverter 'hyper' \(\w{12}\), which cannot be opened at hyper: .*--encoder hyper=URI"
    with pytest.raises(WeightsRefused, match=gone):
        CodeReader(own.root, latents, g).codes(table)
    with pytest.raises(WeightsRefused, match=gone):
        run(run_evaluate, EvaluateJob(store=own.store, generator=own.generator, latents="hyper", distance="mse"))
    assert not own.root.metrics["hyper"].exists()  # refused before it was planned
    with pytest.raises(WeightsRefused, match=r"at consult is another one \(\w{12}\); give it with --encoder hyper=URI"):
        CodeReader(own.root, latents, g, encoders={"hyper": "consult"}).codes(table)
    found = CodeReader(own.root, latents, g, encoders={"hyper": str(Path(own.store) / "elsewhere")})
    assert found.codes(table).scales is not None
    assert CodeReader(own.root, latents, g).codes(table.select(["image_id", "w"])).plain  # nothing to be opened for


@pytest.mark.seconds
def test_a_path_is_found_from_another_folder(own: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``--encoder hyper=weights/hyper`` was given relative to where the run was started."""
    (Path(own.store) / "encoders/hyper").rename(tmp_path / "hyper")
    monkeypatch.chdir(tmp_path)
    run(run_invert, own.job("hyper", name="again", encoders={"hyper": "./hyper"}))
    monkeypatch.chdir("/")
    latents = own.root.latents["again"]
    assert latents.provenance()["encoders"]["hyper"]["uri"] == str(tmp_path / "hyper")
    assert CodeReader(own.root, latents, open_generator(own.generator)).codes(latents.read()).scales is not None


@pytest.mark.seconds
def test_what_a_method_goes_on_from_it_hands_on(own: Place) -> None:
    """From HyperStyle's codes by another method: heads are found again. From HFGI's: edits are consulted still."""
    g = open_generator(own.generator)
    for start in ("hyper", "consult"):
        name = f"on-{start}"
        run(run_invert, own.job("go-on", name=name, start=start))
        latents = own.root.latents[name]
        table = latents.read()
        code = CodeReader(own.root, latents, g).codes(table)
        assert (code.scales is not None, code.features is not None) == (start == "hyper", start == "consult")
        mse = (g.render(code) - made_by(own, start)[2].images).square().mean((1, 2, 3))
        np.testing.assert_allclose(mse.numpy(), table["stored_mse"].to_numpy(), rtol=1e-3)
        assert CodeReader(own.root, latents, g).edits_need_images == (start == "consult")
    run(run_invert, own.job("consult-again", name="both", start="hyper"))
    code = CodeReader(own.root, own.root.latents["both"], g).codes(own.root.latents["both"].read())
    assert code.scales is not None
    assert code.features is not None


def by_hand(place: Place, code: Code, name: str) -> None:
    """Inversions of a method from another package."""
    g = open_generator(place.generator)
    ids = [f"face-{k}" for k in range(len(code))]
    origin = {"generator_name": g.name, "generator_fingerprint": g.fingerprint, "method": "test"}
    collection = place.root.latents[name]
    collection.start(Plan.of("invert", {"name": name}, origin, ids, len(ids)))
    collection.write_part(0, code_to_table(code, ids, collection, EXACT), [], {})
    collection.finish()


@pytest.mark.seconds
def test_stored_features_move_with_an_edit(own: Place) -> None:
    """F' = F + G(w') - G(w) (Yao et al. 2022, section 3.3): an edit below the site shows, and the stored detail stays."""
    g = open_generator(own.generator)
    w, site = random_w(g, 3), "block[4]"
    with torch.no_grad():
        _, features = g.synthesize(Code(w), stop=4, capture=[site, "image[4]"])
    detail = 0.3 * torch.randn(features[site].shape, generator=torch.Generator().manual_seed(0))
    held = Feature(replace=features[site] + detail, image=features["image[4]"])
    code = Code(w, features={site: held})
    by_hand(own, code, "stored")
    run(run_edit, EditJob(store=own.store, generator=own.generator, latents="stored", edits=(SMILE,), images="none"))
    table, latents = own.root.edits["edits"].read(), own.root.latents["stored"].read()
    assert table["extras_uri"].to_pylist()[::2] == latents["extras_uri"].to_pylist()
    rendered = g.render(CodeReader(own.root, own.root.edits["edits"], g).codes(table))
    torch.testing.assert_close(rendered[::2], g.render(code), atol=1e-5, rtol=0)
    moved = w + step(own)
    wanted = g.render(Code(moved, features={site: Feature(add=detail)}))  # the rule is an offset that is kept
    torch.testing.assert_close(rendered[1::2], wanted, atol=1e-2, rtol=0)  # float16 of random features
    coarse = torch.cat([moved[:, :4], w[:, 4:]], dim=1)
    below = CodeReader(own.root, own.root.latents["stored"], g)
    kept = code.with_w(coarse)
    assert torch.equal(g.render(kept), g.render(code))  # a fixed map holds on to the face: rows below it do nothing
    assert (g.render(below.after_edit(None, code, kept)) - g.render(code)).abs().amax(dim=(1, 2, 3)).min() > 1e-2


@pytest.mark.seconds
def test_found_strengths_are_those_of_the_edit_that_is_stored(own: Place) -> None:
    """A strength that is looked for is scored on what the row will render, features and all."""
    g = open_generator(own.generator)
    w, site = random_w(g, 2), "block[8]"
    with torch.no_grad():
        _, features = g.synthesize(Code(w), stop=8, capture=[site])
    by_hand(own, Code(w, features={site: Feature(replace=features[site])}), "stored")
    by_hand(own, Code(w), "plain")
    labeller = open_labeller("portraits-64")
    attribute = next(iter(labeller.attributes))
    spec = EditSpec(name="more", directions={"smile": f"0.02score:{attribute}"}, strengths=(1.0,))
    found = {}
    for name in ("stored", "plain"):
        job = EditJob(store=own.store, generator=own.generator, latents=name, name=name, edits=(spec,), images="none")
        run(run_edit, job)
        table = own.root.edits[name].read()
        found[name] = table["found_strength"].to_numpy()
        edited = g.render(CodeReader(own.root, own.root.edits[name], g).codes(table))
        change = (labeller(edited)[attribute] - labeller(g.render(Code(w)))[attribute]).numpy()
        np.testing.assert_allclose(change, table["response"].to_numpy(), atol=2e-3)
    np.testing.assert_allclose(found["stored"], found["plain"], rtol=0.05, atol=1e-3)


@pytest.mark.seconds
def test_edits_of_one_image_hold_its_extras_once(own: Place) -> None:
    g = open_generator(own.generator)
    offset = 0.1 * torch.randn(2, *g.synthesis.get_parameter("convs.3.weight").shape)
    by_hand(own, Code(random_w(g, 2), weights={"convs.3.weight": offset}), "tuned")
    run(run_edit, EditJob(store=own.store, generator=own.generator, latents="tuned", edits=(SMILE,), images="none"))
    code = table_to_code(own.root.edits["edits"].read(ids=["face-0"]), own.root)
    assert code.weights is not None
    held = code.weights["convs.3.weight"]
    assert isinstance(held, Tensor)
    assert (held.shape[0], held.stride(0)) == (2, 0)


@pytest.mark.seconds
def test_heads_are_bound_by_who_came_last(own: Place) -> None:
    """What is there already is not bound again, and vectors that nobody has heads for are refused in words."""
    g = open_generator(own.generator)
    reader = CodeReader(own.root, own.root.latents["hyper"], g)
    unbound = table_to_code(own.root.latents["hyper"].read(), own.root)
    assert unbound.scales is not None
    assert all(isinstance(d, HeadCode) and d.head is None for d in unbound.scales.values())
    bound = reader.bound(unbound)
    assert reader.bound(bound) is bound
    alien = replace(unbound, scales={"convs.1.weight": next(iter(unbound.scales.values()))})
    with pytest.raises(
        WeightsRefused, match=r"vectors of a hypernetwork for convs\.1\.weight, and their provenance names no"
    ):
        reader.bound(alien)
    by_hand(own, unbound, "nobody")
    nobody = own.root.latents["nobody"]
    with pytest.raises(WeightsRefused, match="latents 'nobody' hold vectors of a hypernetwork"):
        CodeReader(own.root, nobody, g).codes(nobody.read())


@pytest.mark.seconds
def test_an_inverter_is_shown_as_many_pixels_as_it_reads(own: Place, tmp_path: Path) -> None:
    """It reads 128x128 and the generator makes 64x64: the photo itself, and not 64x64 of it enlarged."""
    g = open_generator(own.generator)
    torch.manual_seed(5)
    cfg = PspConfig(resolution=128, num_ws=g.num_ws, w_dim=g.w_dim, base_channels=8, pyramid_channels=8)
    wide = Psp(cfg, g)
    for parameter in wide.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    save_inverter(wide, f"{own.store}/encoders/wide", generator=g)
    method = tmp_path / "wide.yaml"
    method.write_text(METHOD.format(name="wide", stages="[{kind: encode, encoder: wide}]"))
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)).save(tmp_path / "photos/a.png")
    data = DatasetRef(url=str(tmp_path / "photos"))
    run(run_invert, InvertJob(store=own.store, dataset=data, generator=own.generator, method=str(method)))
    inverter, opened = open_inverter("wide", generator=g, store=own.root), data.open()
    made = CodeReader(own.root, own.root.latents["wide"], g).codes(own.root.latents["wide"].read()).w
    with torch.no_grad():
        seen, small = (inverter(opened.load(opened.ids, side).images).w for side in (128, 64))
    torch.testing.assert_close(made, seen, atol=1e-5, rtol=1e-5)
    assert (made - small).abs().max() > 1e-3
