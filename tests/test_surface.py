"""What others rely on changes on purpose."""

from __future__ import annotations

import pytest

from tests.surface import FILE, surface


@pytest.mark.seconds  # every command is imported
def test_the_public_surface_is_the_one_that_is_written_down() -> None:
    """Names of ``ganinv.__all__``, commands, flags and extras."""
    written, found = FILE.read_text().splitlines(), surface()
    gone, new = sorted(set(written) - set(found)), sorted(set(found) - set(written))
    assert found == written, (
        f"gone: {gone}\nnew: {new}\nIf that is meant, say it in CHANGELOG.md and run:  make surface   (python -m tests.surface)"
    )
    assert len(set(found)) == len(found)


def test_every_name_is_there() -> None:
    import ganinv

    for name in ganinv.__all__:
        assert getattr(ganinv, name).__doc__, f"ganinv.{name} says nothing of itself"
    assert set(dir(ganinv)) == set(ganinv.__all__)
