"""Why images failed, told in lines."""

from __future__ import annotations

from typing import Any

from tasks.outcome import lines


def test_a_name_with_a_line_break_does_not_break_the_line() -> None:
    reason = {"code": "truncated", "images": 2, "message": "photos/new\nline\x1b[31m.png: cut off"}
    result: dict[str, Any] = {
        "collection": "latents/e4e",
        "failed": 2,
        "failures": {"images": 1_000, "reasons": [reason]},
    }
    assert lines({"invert": result}) == [
        "latents/e4e: 2 of 1,000 images failed",
        r"  2 truncated, such as photos/new\nline\x1b[31m.png: cut off",
    ]
