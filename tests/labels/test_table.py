"""A user's own labels, joined by image id, and scores as published pipelines stored them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from ganinv.directions.fitting.interfacegan import InterFaceGanConfig, fit_interfacegan
from ganinv.errors import ConfigError, DataError
from ganinv.labels import TableLabeller, open_labeller
from ganinv.labels.published_tables import CELEBA_40, read_published
from ganinv.labels.table import read_labels


def write(folder: Path, **config: object) -> str:
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump({"kind": "table", "name": "mine", **config}, sort_keys=False))
    return str(path)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("image_id,smile,hat,who\n000001,1,true,ann\n000002,0,false,bob\n000003,,true,cid\n")
    return path


def test_scores_are_joined_by_id_and_missing_ones_are_nan(tmp_path: Path, csv: Path) -> None:
    """docs/methods/attribute-labelling.md, check 6."""
    attributes = {"smile": {"kind": "label", "positive_means": "smiles"}}
    labeller = open_labeller(write(tmp_path, path="labels.csv", version=2, attributes=attributes))
    assert labeller.needs == "ids"
    assert labeller.identity == "mine@2"
    assert list(labeller.attributes) == ["smile", "hat"]  # names of people are not numbers
    assert labeller.attributes["smile"].positive_means == "smiles"
    scores = labeller(None, ["000003", "000001", "nobody", "000002"])
    np.testing.assert_array_equal(scores["smile"].numpy(), [np.nan, 1, np.nan, 0])
    np.testing.assert_array_equal(scores["hat"].numpy(), [1, 1, np.nan, 0])
    assert scores["hat"].dtype == torch.float32
    with pytest.raises(DataError, match="by image id, and was given none"):
        labeller(torch.zeros(1, 3, 8, 8))


def test_csv_parquet_and_memory_agree(tmp_path: Path, csv: Path) -> None:
    table = pyarrow.csv.read_csv(
        csv, convert_options=pyarrow.csv.ConvertOptions(column_types={"image_id": pa.string()})
    )
    pq.write_table(table, tmp_path / "labels.parquet")
    first, ids, sha256 = read_labels(str(csv))
    second, same_ids, other = read_labels(str(tmp_path / "labels.parquet"))
    assert ids == same_ids == ["000001", "000002", "000003"]
    assert sha256 != other
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    chosen, _, _ = read_labels(str(csv), columns={"grin": "smile"})
    assert list(chosen) == ["grin"]


def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, csv: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'smiel', did you mean 'smile'"):
        open_labeller(write(tmp_path, path="labels.csv", columns={"smile": "smiel"}))
    with pytest.raises(DataError, match="column 'who' holds string, expected numbers"):
        open_labeller(write(tmp_path, path="labels.csv", columns={"who": "who"}))
    with pytest.raises(ConfigError, match=r"describes \['grin'\]"):
        open_labeller(write(tmp_path, path="labels.csv", attributes={"grin": {"kind": "label", "positive_means": "x"}}))
    with pytest.raises(DataError, match="cannot read labels"):
        open_labeller(write(tmp_path, path="nothing.csv"))
    (tmp_path / "bytes.csv").write_bytes(b"image_id,smile\na,1\nb,1,\x1b[31m\n")
    with pytest.raises(DataError, match=r"cannot read labels from .*\\x1b\[31m"):
        open_labeller(write(tmp_path, path="bytes.csv"))
    with pytest.raises(ConfigError, match=r"\.csv, \.tsv or \.parquet"):
        open_labeller(write(tmp_path, path="labels.xlsx"))
    csv.write_text("image_id,smile\na,1\nb,0\na,0\n")
    with pytest.raises(DataError, match="more than one row for 'a'"):
        open_labeller(write(tmp_path, path="labels.csv"))
    csv.write_text("image_id,name\na,ann\n")
    with pytest.raises(DataError, match="nothing to score by"):
        open_labeller(write(tmp_path, path="labels.csv"))


def test_a_table_of_labels_gives_the_direction_that_the_labels_give(tmp_path: Path) -> None:
    """docs/methods/attribute-labelling.md, check 1: 10,000 samples, 0/1 labels, CSV against memory, in another order."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(10_000, 16)).astype(np.float32)
    labels = (w[:, 3] + 0.3 * rng.normal(size=len(w)) > 1).astype(int)
    ids = [f"sample-{i:09d}" for i in range(len(w))]
    shuffled = rng.permutation(len(w))
    rows = "\n".join(f"{ids[i]},{labels[i]}" for i in shuffled)
    (tmp_path / "labels.csv").write_text(f"image_id,glasses\n{rows}\n")
    memory = TableLabeller({"glasses": labels.astype(np.float32)}, ids, name="memory")
    table = open_labeller(write(tmp_path, path="labels.csv"))
    config = InterFaceGanConfig(tails=800, bootstrap=0)
    vectors = [
        fit_interfacegan(w, labeller(None, ids)["glasses"].numpy(), config, attribute="glasses", ids=ids).vector
        for labeller in (memory, table)
    ]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert abs(vectors[0][3]) > 0.95


def test_missing_labels_are_left_out_and_counted() -> None:
    """docs/methods/attribute-labelling.md, check 6."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(500, 8))
    ids = [str(i) for i in range(500)]
    labeller = TableLabeller({"hat": w[:400, 0]}, ids[:400], name="memory")
    scores = labeller(None, ids)["hat"].numpy()
    config = InterFaceGanConfig(tails=0.1, missing="leave out", bootstrap=0)
    boundary = fit_interfacegan(w, scores, config, attribute="hat", ids=ids)
    assert boundary.report["left_out"] == 100
    assert boundary.report["samples"] == 400
    with pytest.raises(DataError, match="'hat': 100 of 500 scores are NaN"):
        fit_interfacegan(w, scores, InterFaceGanConfig(tails=0.1), attribute="hat", ids=ids)


def test_four_published_layouts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(5, 40, 2)).astype(np.float32)
    difference = pairs[..., 1] - pairs[..., 0]

    np.save(tmp_path / "age_scores.npy", np.arange(5.0)[:, None])
    scores, ids = read_published(str(tmp_path), "interfacegan")
    assert ids == ["000000", "000001", "000002", "000003", "000004"]
    np.testing.assert_array_equal(scores["age"], np.arange(5))

    for part, rows in ((0, slice(0, 2)), (10, slice(3, 5)), (2, slice(2, 3))):
        (tmp_path / f"id_{part}").mkdir()
        np.save(tmp_path / f"id_{part}" / "scores.npy", pairs[rows])
        np.save(tmp_path / f"id_{part}" / "ages.npy", np.arange(5.0)[rows])
    scores, _ = read_published(str(tmp_path), "stylegan3-editing")
    np.testing.assert_allclose(scores["Smiling"], difference[:, 31])
    np.testing.assert_array_equal(scores["age"], np.arange(5))

    torch.save(torch.from_numpy(pairs.reshape(5, 80)), tmp_path / "attributes_ffhq.pt")
    scores, _ = read_published(str(tmp_path / "attributes_ffhq.pt"), "anycost")
    assert tuple(scores) == CELEBA_40
    np.testing.assert_allclose(scores["Eyeglasses"], difference[:, 15])

    (tmp_path / "attribute.csv").write_text("00-male,01-smiling\n-2,1\n3,0.5\n")
    scores, _ = read_published(str(tmp_path / "attribute.csv"), "stylespace")
    np.testing.assert_array_equal(scores["male"], [2, -3])  # its lowest logits have the attribute

    labeller = open_labeller(write(tmp_path, path="attributes_ffhq.pt", layout="anycost"))
    assert labeller(None, ["000004"])["Young"].item() == pytest.approx(difference[4, 39], abs=1e-6)
    np.save(tmp_path / "bad_scores.npy", np.zeros((5, 7)))
    with pytest.raises(DataError, match=r"one score per sample, got shape \(5, 7\)"):
        read_published(str(tmp_path), "interfacegan")
    with pytest.raises(DataError, match="no scores of layout"):
        read_published(str(tmp_path / "nowhere"), "stylegan3-editing")
