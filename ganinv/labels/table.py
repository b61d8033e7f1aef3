"""A user's own labels: a CSV or Parquet table, joined to the images by id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from torch import Tensor

from ganinv.errors import ConfigError, DataError, did_you_mean, printable
from ganinv.labels.base import Attribute, Labeller
from ganinv.store.tensors import arrow_file, parquet_table


class TableLabeller(Labeller):
    """Scores by image id. Needs no images, so nothing is rendered for it; an id without a row scores NaN.

    Args:
        scores: attribute -> float32 [N], NaN if a cell is empty. ids: [N], unique.
    """

    needs = "ids"

    def __init__(
        self,
        scores: Mapping[str, np.ndarray],
        ids: Sequence[str],
        *,
        name: str,
        version: int = 1,
        attributes: Mapping[str, Attribute] | None = None,
        weights_sha256: str = "",
        description: Mapping[str, Any] | None = None,
    ) -> None:
        said = {key: Attribute(kind="label", positive_means=f"more {key}") for key in scores} | dict(attributes or {})
        super().__init__(
            name=name,
            version=version,
            attributes={key: said[key] for key in scores},
            weights_sha256=weights_sha256 or _digest(scores, ids),
            description=description,
        )
        self.scores = {key: np.asarray(values, dtype=np.float32) for key, values in scores.items()}
        self.rows = {image_id: row for row, image_id in enumerate(ids)}
        if len(self.rows) != len(ids):
            seen: set[str] = set()
            double = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise DataError(f"labels {name!r} have more than one row for {double!r}; keep one row per image")

    def score(self, images: Tensor | None, ids: Sequence[str] | None = None) -> dict[str, Tensor]:
        if ids is None:
            raise DataError(f"labeller {self.identity} looks scores up by image id, and was given none")
        rows = np.array([self.rows.get(image_id, -1) for image_id in ids])
        return {
            key: torch.from_numpy(np.where(rows < 0, np.float32("nan"), values[rows]))
            for key, values in self.scores.items()
        }


def read_labels(
    path: str, id_column: str = "image_id", columns: Mapping[str, str] | None = None
) -> tuple[dict[str, np.ndarray], list[str], str]:
    """(attribute -> scores [N], ids, sha256) of a table.

    Args:
        path: ``.csv``, ``.tsv`` or ``.parquet``, at any fsspec URL.
        id_column: the images' ids, as text (numbers are taken as they print).
        columns: attribute -> column; None takes every column of numbers or booleans under its own name.

    Raises:
        ConfigError: a column that is not there. DataError: a table that cannot be read or is not one of numbers.
    """
    table, sha256 = _read(path, id_column)
    wanted = dict(columns) if columns else _numeric(table, id_column)
    for column in (id_column, *wanted.values()):
        if column not in table.column_names:
            raise ConfigError(
                f"{path} has no column {column!r}{did_you_mean(column, table.column_names)}; "
                f"there are: {', '.join(table.column_names)}"
            )
    if not wanted:
        raise DataError(f"{path} has no column of numbers beside {id_column!r}; there is nothing to score by")
    ids = [str(value) for value in table[id_column].to_pylist()]
    scores = {}
    for name, column in wanted.items():
        try:
            values = table[column].cast(pa.float32(), safe=False)
        except pa.ArrowException as error:
            raise DataError(f"{path}: column {column!r} holds {table[column].type}, expected numbers") from error
        scores[name] = values.to_numpy().astype(np.float32)
    return scores, ids, sha256


def _read(path: str, id_column: str) -> tuple[pa.Table, str]:
    if not path.endswith((".csv", ".tsv", ".parquet")):
        raise ConfigError(f"labels must be a .csv, .tsv or .parquet table, got {path!r}")
    try:
        with fsspec.open(path, "rb") as file:
            content = file.read()
        if path.endswith(".parquet"):
            table = parquet_table(content)
        else:
            parse = pyarrow.csv.ParseOptions(delimiter="\t" if path.endswith(".tsv") else ",")
            convert = pyarrow.csv.ConvertOptions(column_types={id_column: pa.string()})  # "000123" is not 123
            table = pyarrow.csv.read_csv(arrow_file(content), parse_options=parse, convert_options=convert)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read labels from {path!r}: {printable(str(error))}") from error
    return table, hashlib.sha256(content).hexdigest()


def _numeric(table: pa.Table, id_column: str) -> dict[str, str]:
    number = [
        f.name
        for f in table.schema
        if f.name != id_column
        and (pa.types.is_floating(f.type) or pa.types.is_integer(f.type) or pa.types.is_boolean(f.type))
    ]
    return {name.removeprefix("score_"): name for name in number}


def _digest(scores: Mapping[str, np.ndarray], ids: Sequence[str]) -> str:
    digest = hashlib.sha256("\n".join(ids).encode())
    for key, values in scores.items():
        digest.update(key.encode() + np.asarray(values, dtype=np.float32).tobytes())
    return digest.hexdigest()
