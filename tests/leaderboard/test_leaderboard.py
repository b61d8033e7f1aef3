"""``ganinv leaderboard``: from methods and images to a page; resumed, and grown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ganinv.data.png import png_bytes
from ganinv.directions.fitting.stylespace import channel_direction
from ganinv.directions.styles import StyleLayout
from ganinv.errors import ConfigError, DataError
from ganinv.generators.files import open_generator
from ganinv.leaderboard.board import JUDGED, Board
from ganinv.leaderboard.halves_table import halves_of
from ganinv.leaderboard.page import markdown, write
from ganinv.leaderboard.protocol import ADDED, LeaderboardProtocol
from ganinv.store import open_store
from tasks.engine import open_pools
from tasks.jobs.engine import Engine
from tasks.steps.leaderboard import _agree, check_identity, run_leaderboard, small_faces
from tasks.steps.leaderboard_job import LeaderboardJob

pytest.importorskip("dlib")
PROTOCOL = LeaderboardProtocol(
    name="small", samples=9, fitted_on=400, strengths=(2.0,), resamples=100, channels=(), references=(), halves=""
)


def run(store: Path, *methods: str, **more: object) -> dict[str, object]:
    job = LeaderboardJob.model_validate({"store": str(store), "methods": methods, "protocol": PROTOCOL, **more})
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        return run_leaderboard(job, pools)


def contents(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> what is in the file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_board_is_made_grown_and_drawn(tmp_path: Path) -> None:
    quick = tmp_path / "quick.yaml"
    stage = "{kind: optimize, space: w, start: mean, steps: 4, lr: 0.1}"
    quick.write_text(f"name: quick\nsummary: four steps\nspace: w\nstages:\n  - {stage}\n")
    store, photos, page = tmp_path / "store", tmp_path / "photos", tmp_path / "page"
    photos.mkdir()
    for n in range(2):
        noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(n)) * 2 - 1
        (photos / f"{n}.png").write_bytes(png_bytes(noise))
    first = run(store, "e4e")
    assert list(first["boards"]) == ["samples.e4e"]
    before = contents(store)
    second = run(store, "e4e", str(quick), datasets={"noise": str(photos)})
    done = {name: one["judged"]["units_computed"] for name, one in second["boards"].items()}
    assert done == {"samples.e4e": 0, "noise.e4e": 1, "samples.quick": 1, "noise.quick": 1}  # what is there is kept
    after = contents(store)
    assert {name: after[name] for name in before} == before
    board = Board(open_store(str(store)))
    assert next(iter(board.rows["samples"])) == "e4e"  # four steps are worse
    row = board.rows["samples"]["quick"]
    found = board.to_reference(row)
    assert found is not None
    assert found.low > 1
    assert row.cost.seconds > 0
    assert row.cost.wall > 0
    assert row.cost.device
    assert row.cost.batch == 9
    assert row.cost.bytes > 1000
    assert board.mean(row, "identity").count >= 8
    assert board.mean(board.rows["noise"]["quick"], "identity").count == 0  # no face, so nothing is said
    text = markdown(board)
    assert "| e4e |" in text
    assert "dlib face descriptor" in text
    assert "No intervals of fewer than 8 images: there are 2." in text
    write(board, page)
    drawn = contents(page)
    assert (page / "leaderboard.html").read_text().count(
        "<tr><td>"
    ) == 2 * 6 + 6  # three tables of two data sets, and strips
    assert drawn["leaderboard-samples.jpg"] != drawn["leaderboard-noise.jpg"]
    again = run(store, "e4e", str(quick), datasets={"noise": str(photos)})
    assert {one["judged"]["units_computed"] for one in again["boards"].values()} == {0}
    assert contents(store) == after
    write(Board(open_store(str(store))), page)
    assert contents(page) == drawn


@pytest.mark.slow
def test_methods_that_are_bad_on_purpose_are_found_out(tmp_path: Path) -> None:
    """The mean face takes every edit and is nobody; pixels copied over it are the person until they are edited."""
    run(tmp_path, "e4e", "configs/controls/mean.yaml", "configs/controls/copy.yaml")
    rows = Board(open_store(str(tmp_path))).rows["samples"]
    e4e, mean, copy = (
        {
            name: float(np.nanmean(rows[method].values[name]))
            for name in ("mse", "same", "yaw_reached", "yaw_kept", "smile_kept")
        }
        for method in ("e4e", "control-mean", "control-copy")
    )
    assert copy["mse"] < 0.1 * e4e["mse"] < 0.01 * mean["mse"]
    assert copy["same"] == 1
    kept = [one["yaw_kept"] + one["smile_kept"] for one in (e4e, mean, copy)]
    assert kept[0] > 2 * max(kept[1:])
    assert mean["yaw_reached"] > 0.8


@pytest.mark.slow
def test_what_cannot_run_is_a_row_with_its_reason_and_a_board_has_one_protocol(tmp_path: Path) -> None:
    store = tmp_path / "store"
    missing = tmp_path / "missing.yaml"
    missing.write_text("name: missing\nsummary: of nobody\nspace: w+\nstages:\n  - {kind: encode, encoder: nobody}\n")
    result = run(store, str(missing))
    assert "no encoder at 'nobody'" in result["not_run"]["samples.missing"]
    assert open_store(str(store)).list(JUDGED) == []
    assert "no encoder at 'nobody'" in Board(open_store(str(store))).not_run("samples")["missing"]
    with pytest.raises(ConfigError, match="numbers of both cannot be in one table"):
        run(store, "e4e", protocol=PROTOCOL.model_copy(update={"seed": 1}))


def test_a_board_of_the_protocol_before_goes_on_under_this_one(tmp_path: Path) -> None:
    """What is new only adds numbers, so rows that were judged before stay."""
    now = LeaderboardProtocol()
    assert now.judged_digest.startswith("db614339")  # of leaderboard-2, as the rows of that board have it
    store, path = open_store(str(tmp_path)), "board/protocol.json"
    before = {**now.model_dump(mode="json", exclude=set(ADDED)), "name": "leaderboard-2"}
    store.objects.put(path, json.dumps(before).encode())
    _agree(store, now)
    assert json.loads(store.objects.read(path)) == now.model_dump(mode="json")
    store.objects.put(path, json.dumps({**before, "seed": 1}).encode())
    with pytest.raises(ConfigError, match="numbers of both cannot be in one table"):
        _agree(store, now)


@pytest.mark.slow
def test_what_was_added_to_the_protocol_is_computed_alone_and_once(tmp_path: Path) -> None:
    """Consistency, a channel, edits by references and edited halves, of a board that was made without."""
    run(tmp_path, "e4e", "configs/controls/mean.yaml")
    store, g = open_store(str(tmp_path)), open_generator("portraits-64")
    layout = StyleLayout.of(g)
    channel = channel_direction(layout, layout.index("convs.4", 7), 5.0, g.name, g.fingerprint, name="channel-smile")
    store.directions.put(channel)
    new = ("channels", "channel_strengths", "references", "halves")
    asked = {name: getattr(LeaderboardProtocol(), name) for name in new}
    wanted = PROTOCOL.model_copy(update={**asked, "halves_from": 9})
    rows = {name: one for name, one in contents(tmp_path).items() if name.startswith(("leaderboard/", "latents/"))}
    (tmp_path / "board/protocol.json").write_text(wanted.model_dump_json(indent=1))
    first = run(tmp_path, "e4e", "configs/controls/mean.yaml", protocol=wanted)
    after = contents(tmp_path)
    assert {name: after[name] for name in rows} == rows
    computed = {name: part["units_computed"] for one in first["boards"].values() for name, part in one.items()}
    assert computed["channels"] == 1
    board = Board(store)
    e4e, mean = (board.rows["samples"][name].values for name in ("e4e", "control-mean"))
    np.testing.assert_allclose(mean["smile_lec"], 1, atol=0.05)  # the mean face finds nothing again
    assert np.nanmean(e4e["smile_found"]) > 0.4
    assert np.isfinite(e4e["channel-smile_reached"]).sum() >= 8
    assert set(board.references("samples")) >= {"reference-editor:smile_taken", "control-swap:glasses_side"}
    halves = halves_of(board, "samples")
    assert set(halves) == {"photos", "e4e", "control-mean"}
    assert halves["control-mean"].unedited.mean > halves["e4e"].unedited.mean
    text = markdown(board)
    for title in ("Latent editing consistency", "Single channels of S", "Edits by a reference", "Edited halves"):
        assert f"### {title}" in text
    again = run(tmp_path, "e4e", "configs/controls/mean.yaml", protocol=wanted)
    assert {part["units_computed"] for one in again["boards"].values() for part in one.values()} == {0}
    assert contents(tmp_path) == after


def test_what_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        run(tmp_path, "e4e", "nonsense")
    with pytest.raises(DataError):
        run(tmp_path, "e4e", datasets={"gone": str(tmp_path / "gone")})
    with pytest.raises(ConfigError, match="data set 'a b' cannot be used as a name in the store"):
        run(tmp_path, "e4e", datasets={"a b": str(tmp_path)})
    with pytest.raises(ConfigError, match="--people names strangers, which is not one of the data sets"):
        run(tmp_path, "e4e", people={"strangers": "x"})
    assert open_store(str(tmp_path)).list(JUDGED) == []


@pytest.mark.seconds
def test_the_judge_of_identity_is_checked_on_people(tmp_path: Path, demo_pictures: Path) -> None:
    """Each of two photographed people once more, mirrored."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in demo_pictures.glob("portrait-*.png"):
        with Image.open(path) as opened:
            opened.save(photos / f"{path.stem.split('-')[1]}_a.png")
            ImageOps.mirror(opened).save(photos / f"{path.stem.split('-')[1]}_b.png")
    job = LeaderboardJob.model_validate(
        {
            "store": str(tmp_path / "store"),
            "methods": ("e4e",),
            "datasets": {"two": str(photos)},
            "people": {"two": "(.*)_"},
        }
    )
    store = open_store(job.store)
    check_identity(job, store, open_generator("portraits-64"), job.datasets)
    found = json.loads(store.objects.read("board/identity.json"))["two"]
    assert (found["auc"], found["same"], found["different"], found["size"]) == (1.0, 2, 4, 64)
    assert "dlib face descriptor" in found["judge"]
    other = job.model_copy(update={"people": {"two": "nobody"}, "store": str(tmp_path / "other")})
    with pytest.raises(ConfigError, match="finds no person in the id 'astronaut_a'"):
        check_identity(other, open_store(other.store), open_generator("portraits-64"), other.datasets)


@pytest.mark.seconds
def test_small_faces_are_a_data_set_by_name(tmp_path: Path) -> None:
    first = small_faces(open_store(str(tmp_path)))
    names = contents(tmp_path)
    assert len(names) == 100
    assert small_faces(open_store(str(tmp_path))) == first
    assert contents(tmp_path) == names


@pytest.mark.slow
def test_without_edits_nothing_is_fitted(tmp_path: Path) -> None:
    """For generators of what has no smile, and where time is short."""
    small = PROTOCOL.model_copy(update={"samples": 2})
    faces = {"lfw": {"url": "skimage://lfw_subset", "limit": 1}}
    result = run(tmp_path / "store", "e4e", edits=False, protocol=small, datasets=faces)
    assert {name: one["judged"]["rows"] for name, one in result["boards"].items()} == {"samples.e4e": 2, "lfw.e4e": 1}
    store = open_store(str(tmp_path / "store"))
    assert store.directions.list() == []
    board = Board(store)
    assert board.protocol.name == "small-without-edits"
    files = write(board, tmp_path / "page")
    text = Path(files["markdown"]).read_text()
    assert "Edits were left out" in text
    assert "### Editability" not in text
    assert "| e4e |" in text
    with pytest.raises(ConfigError, match="numbers of both cannot be in one table"):
        run(tmp_path / "store", "e4e", protocol=small)
