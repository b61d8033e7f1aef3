from __future__ import annotations

import pytest

from ganinv.editing import Reference, parse_edit, parse_reference
from ganinv.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "reference", "written"),
    [
        ("smile", Reference("smile"), "smile"),
        (" smile@3 ", Reference("smile", 3), "smile@3"),
        ("smile(0-3)", Reference("smile", None, (0, 4)), "smile(0-3)"),
        ("smile@12( 4 - 7 )", Reference("smile", 12, (4, 8)), "smile@12(4-7)"),
        ("smile(7)", Reference("smile", None, (7, 8)), "smile(7)"),
        ("smile(7-7)", Reference("smile", None, (7, 8)), "smile(7)"),
        ("pca-07.b_2", Reference("pca-07.b_2"), "pca-07.b_2"),
        ("E(v1,0-3)", Reference("pca-01", None, (0, 4)), "pca-01(0-3)"),
        ("E(v54, 7)", Reference("pca-54", None, (7, 8)), "pca-54(7)"),
        ("E(v120)", Reference("pca-120"), "pca-120"),
        ("E(v9@2, 8-8)", Reference("pca-09", 2, (8, 9)), "pca-09@2(8)"),
        ("E(smile, 0-3)", Reference("smile", None, (0, 4)), "smile(0-3)"),
        ("v1", Reference("v1"), "v1"),  # a direction of that name; components are named inside E( )
        ("E", Reference("E"), "E"),
    ],
)
def test_references(text: str, reference: Reference, written: str) -> None:
    assert parse_reference(text) == reference
    assert str(reference) == written
    assert parse_reference(written) == reference


@pytest.mark.parametrize(
    "text",
    ["", " ", "smile(", "smile)", "smile()", "smile(a-b)", "smile(-1)", "smile@", "smile@x", "smile(0-3", "sm ile",
     "E(v1", "E()", "E(v1,)", "E(v1,0-3)x", "-smile", "smile(0-3)(4-5)", "smile(0:3)"],
)  # fmt: skip
def test_what_names_no_direction(text: str) -> None:
    with pytest.raises(ConfigError, match="does not name a direction; write smile=2"):
        parse_reference(text)


def test_an_empty_range() -> None:
    with pytest.raises(ConfigError, match="rows from 5 to 3; write the smaller one first"):
        parse_reference("smile(5-3)")


def test_edits() -> None:
    assert parse_edit("smile=2") == {"smile": 2.0}
    assert parse_edit("E(v1,0-3)=-1.5, smile@2(4-7) = 1e-1,age=+3") == {
        "pca-01(0-3)": -1.5,
        "smile@2(4-7)": 0.1,
        "age": 3.0,
    }
    assert parse_edit("smile(0-3)=1,smile(4-7)=-1") == {"smile(0-3)": 1.0, "smile(4-7)": -1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smile", "expected direction=strength, got 'smile'"),
        ("=2", "expected direction=strength, got '=2'"),
        ("smile=2,", "expected direction=strength, got ''"),
        (
            "smile=much",
            "expected a number after = in 'smile=much', or a change of a score such as 1sd or 0.5score, got 'much'",
        ),
        ("smile=nan", "expected a number"),
        ("smile=inf", "expected a number"),
        ("smile=2,smile=3", "smile is there twice"),
        ("E(v1,0-3)=1,pca-01(0-3)=2", "is there twice"),
        ("smile(0-3=2", "does not name a direction"),
    ],
)
def test_what_is_no_edit(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_edit(text)
