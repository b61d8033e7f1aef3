"""Conditions on the rows of a collection, and their order."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flows.studio.rows import filtered, ordered, scalar_columns
from ganinv.errors import ConfigError

ROWS = pa.table(
    {
        "image_id": ["anna", "bert", "carl", "dora"],
        "mse": [0.02, None, 0.01, 0.2],
        "stop_reason": ["plateau", "cap", "plateau", None],
        "steps": [3, 4, 5, 6],
        "good": [True, False, True, None],
    }
)


@pytest.mark.parametrize(
    ("conditions", "ids"),
    [
        ("", "anna bert carl dora"),
        ("mse < 0.1", "anna carl"),
        ("mse<=0.02,steps>3", "carl"),
        ("mse >= 0.02 and stop_reason = plateau", "anna"),
        ("image_id ~ AN", "anna"),
        ("stop_reason != 'plateau'", "bert"),
        ("steps == 4", "bert"),
        ("good = true", "anna carl"),
        ("steps ~ 5 AND good = yes", "carl"),
        ("mse > 1", ""),
    ],
)
def test_conditions(conditions: str, ids: str) -> None:
    assert filtered(ROWS, conditions)["image_id"].to_pylist() == ids.split()


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ("mse", "'mse' is not a condition: write conditions as"),
        ("mce < 1", "no column 'mce', did you mean 'mse'"),
        ("mse < small", "has numbers, got 'small'"),
        ("__import__('os') < 1", "no column"),
    ],
)
def test_conditions_that_cannot_be_read(conditions: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        filtered(ROWS, conditions)


def test_order_puts_rows_without_a_value_last() -> None:
    assert ordered(ROWS, "mse")["image_id"].to_pylist() == ["carl", "anna", "dora", "bert"]
    assert ordered(ROWS, "mse", descending=True)["image_id"].to_pylist() == ["dora", "anna", "carl", "bert"]
    assert ordered(ROWS, "stop_reason")["image_id"].to_pylist() == ["bert", "anna", "carl", "dora"]
    with pytest.raises(ConfigError, match="no column 'size'"):
        ordered(ROWS, "size")


def test_columns_that_say_where_files_are_are_not_shown() -> None:
    schema = pa.schema(
        [
            ("image_id", pa.string()),
            ("source_uri", pa.string()),
            ("w", pa.list_(pa.float32(), 4)),
            ("mse", pa.float32()),
        ]
    )
    assert scalar_columns(schema) == ["image_id", "mse"]
