"""``ganinv leaderboard``: from methods and images to a page; resumed, and grown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganinv.data.png import png_bytes
from ganinv.errors import ConfigError
from ganinv.leaderboard.board import JUDGED, Board
from ganinv.leaderboard.page import markdown, write
from ganinv.leaderboard.protocol import LeaderboardProtocol
from ganinv.store import open_store
from tasks.engine import open_pools
from tasks.jobs.engine import Engine
from tasks.steps.leaderboard import LeaderboardJob, run_leaderboard

pytest.importorskip("dlib")
PROTOCOL = LeaderboardProtocol(name="small", samples=9, fitted_on=400, strengths=(2.0,), resamples=100)


def run(store: Path, *methods: str, **more: object) -> dict[str, object]:
    job = LeaderboardJob.model_validate({"store": str(store), "methods": methods, "protocol": PROTOCOL, **more})
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        return run_leaderboard(job, pools)


@pytest.mark.slow
def test_a_board_is_made_grown_and_drawn(tmp_path: Path) -> None:
    quick = tmp_path / "quick.yaml"
    stage = "{kind: optimize, space: w, start: mean, steps: 4, lr: 0.1}"
    quick.write_text(f"name: quick\nsummary: four steps\nspace: w\nstages:\n  - {stage}\n")
    store, photos = tmp_path / "store", tmp_path / "photos"
    photos.mkdir()
    for n in range(2):
        noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(n)) * 2 - 1
        (photos / f"{n}.png").write_bytes(png_bytes(noise))
    first = run(store, "e4e")
    assert list(first["boards"]) == ["samples.e4e"]
    second = run(store, "e4e", str(quick), datasets={"noise": str(photos)})
    assert second["boards"]["samples.e4e"]["judged"]["units_computed"] == 0  # what is there is kept
    assert sorted(second["boards"]) == ["noise.e4e", "noise.quick", "samples.e4e", "samples.quick"]
    board = Board(open_store(str(store)))
    assert next(iter(board.rows["samples"])) == "e4e"  # four steps are worse
    row = board.rows["samples"]["quick"]
    found = board.to_reference(row)
    assert found is not None
    assert found.low > 1
    assert row.seconds > 0
    assert row.bytes > 1000
    assert board.mean(row, "identity").count >= 8
    assert board.mean(board.rows["noise"]["quick"], "identity").count == 0  # no face, so nothing is said
    text = markdown(board)
    assert "| e4e |" in text
    assert "dlib face descriptor" in text
    made = write(board, tmp_path / "page")
    page = Path(made["page"]).read_text()
    assert page.count("<tr><td>") == 4
    assert (tmp_path / "page/leaderboard-samples.png").stat().st_size > 10_000


@pytest.mark.slow
def test_what_cannot_run_is_a_row_with_its_reason_and_a_board_has_one_protocol(tmp_path: Path) -> None:
    store = tmp_path / "store"
    missing = tmp_path / "missing.yaml"
    missing.write_text("name: missing\nsummary: of nobody\nspace: w+\nstages:\n  - {kind: encode, encoder: nobody}\n")
    result = run(store, str(missing))
    assert "no encoder at 'nobody'" in result["not_run"]["samples.missing"]
    assert open_store(str(store)).list(JUDGED) == []
    assert "no encoder at 'nobody'" in Board(open_store(str(store))).not_run["samples.missing"]
    with pytest.raises(ConfigError, match="numbers of both cannot stand in one table"):
        run(store, "e4e", protocol=PROTOCOL.model_copy(update={"seed": 1}))
