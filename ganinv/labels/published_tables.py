"""Scores as published pipelines stored them: four layouts, read into named columns.

A row of these files is a sample of their run, known by its number alone; it gets that number as its id.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Literal

import fsspec
import numpy as np
import torch

from ganinv.errors import DataError
from ganinv.reading.checkpoint import read_checkpoint

Layout = Literal["interfacegan", "stylegan3-editing", "anycost", "stylespace"]

# The attributes of CelebA, in the order of its table, which Anycost GAN and stylegan3-editing keep.
CELEBA_40 = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee",
    "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair",
    "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip


def read_published(path: str, layout: Layout, id_format: str = "{:06d}") -> tuple[dict[str, np.ndarray], list[str]]:
    """(attribute -> float32 scores [N], ids) of a published run.

    Args:
        path: ``interfacegan``: one ``<attribute>_scores.npy`` [N, 1], or a folder of them. ``stylegan3-editing``: the
            folder that holds ``id_0``, ``id_1``, ... with ``scores.npy`` [n, 40, 2] and, where they are, ``ages.npy`` and
            ``poses.npy``. ``anycost``: ``attributes_<config>.pt`` [N, 80]. ``stylespace``: the CSV with a column
            ``NN-attribute`` for each classifier.
        id_format: of row numbers; InterFaceGAN's images are named by six digits.

    Two numbers per attribute (absent, present) become their difference. StyleSpace's classifiers give the lowest number
    to images that have the attribute, so theirs are negated: everywhere, higher means more of it.

    Raises:
        DataError: files of another layout.
    """
    readers: dict[str, Callable[[str], dict[str, np.ndarray]]] = {
        "interfacegan": _interfacegan,
        "stylegan3-editing": _stylegan3,
        "anycost": _anycost,
        "stylespace": _stylespace,
    }
    scores = {name: np.asarray(values, dtype=np.float32) for name, values in readers[layout](path).items()}
    lengths = {name: len(values) for name, values in scores.items()}
    if not lengths or len(set(lengths.values())) != 1:
        raise DataError(f"{path} has no scores of layout {layout!r}, or columns of different lengths: {lengths}")
    return scores, [id_format.format(i) for i in range(next(iter(lengths.values())))]


def _interfacegan(path: str) -> dict[str, np.ndarray]:
    files = [path] if path.endswith(".npy") else _glob(f"{path}/*_scores.npy")
    return {_stem(file).removesuffix("_scores"): _column(_npy(file), file) for file in files}


def _stylegan3(path: str) -> dict[str, np.ndarray]:
    files = sorted(_glob(f"{path}/id_*/scores.npy"), key=lambda file: int(re.findall(r"id_(\d+)", file)[-1]))
    parts: dict[str, list[np.ndarray]] = {}
    for file in files:
        for name, values in _pairs(_npy(file), file).items():
            parts.setdefault(name, []).append(values)
        for stem, name in (("ages", "age"), ("poses", "pose")):
            beside = file.removesuffix("scores.npy") + f"{stem}.npy"
            if _glob(beside):
                parts.setdefault(name, []).append(_column(_npy(beside), beside))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _anycost(path: str) -> dict[str, np.ndarray]:
    tensor = read_checkpoint(path)
    if not isinstance(tensor, torch.Tensor):
        raise DataError(f"{path} must hold one tensor [N, 80], got {type(tensor).__name__}")
    return _pairs(tensor.float().numpy(), path)


def _stylespace(path: str) -> dict[str, np.ndarray]:
    with fsspec.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [key for key in (rows[0] if rows else {}) if re.match(r"\d\d-", key)]
    try:
        return {key[3:]: -np.array([float(row[key]) for row in rows]) for key in columns}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} holds something else than numbers: {error}") from error


def _pairs(values: np.ndarray, where: str) -> dict[str, np.ndarray]:
    """[N, 80] or [N, 40, 2] as present minus absent."""
    if values.size != len(values) * 80:
        raise DataError(f"{where} must hold 40 pairs (absent, present) per sample, got shape {values.shape}")
    pairs = values.reshape(-1, 40, 2)
    return {name: pairs[:, i, 1] - pairs[:, i, 0] for i, name in enumerate(CELEBA_40)}


def _column(values: np.ndarray, where: str) -> np.ndarray:
    """[N] of [N] or [N, 1]; of angles [N, 3] the first, which is the yaw."""
    if values.ndim == 2 and values.shape[1] in (1, 3):
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(f"{where} must hold one score per sample, got shape {values.shape}")
    return values


def _npy(path: str) -> np.ndarray:
    try:
        with fsspec.open(path, "rb") as file:
            return np.load(io.BytesIO(file.read()), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read scores from {path!r}: {error}") from error


def _glob(pattern: str) -> list[str]:
    fs, path = fsspec.url_to_fs(pattern)
    return sorted(fs.unstrip_protocol(found) for found in fs.glob(path))


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]
