"""Edits by a reference before judges: numbers of faces that are known."""

from __future__ import annotations

import numpy as np

from ganinv.leaderboard.protocol import AskedReference
from ganinv.leaderboard.references import partners, taken_over

SPREADS = {"smile": 0.1, "yaw": 0.1}


def test_partners_differ_in_what_is_taken_over() -> None:
    measure = np.array([0.0, 0.1, 1.0, 1.1])
    which = partners(measure)
    assert sorted(which) == [0, 1, 2, 3]
    assert np.abs(measure[which] - measure).min() >= 0.9


def test_what_was_taken_over_and_what_else_changed() -> None:
    """Who does nothing takes nothing; who brings the reference's whole face takes all, and is the reference."""
    people = np.eye(3)
    measures = {"smile": np.array([0.0, 1.0, 0.05]), "yaw": np.zeros(3)}
    which, asked = np.array([1, 0, 0]), AskedReference(attribute="smile", measure="smile", gap=0.2)
    photos = measures, people

    def judged(after: dict[str, np.ndarray], faces: np.ndarray) -> dict[str, np.ndarray]:
        return taken_over(SPREADS, asked, which, photos, measures, (after, faces))

    keeps = judged(measures, people)
    swaps = judged({"smile": measures["smile"][which], "yaw": measures["yaw"] + 0.2}, people[which])
    for found in (keeps, swaps):
        assert all(np.isnan(values[2]) for values in found.values())  # these two photos do not differ
    assert keeps["taken"][:2].tolist() == keeps["closed"][:2].tolist() == keeps["identity"][:2].tolist() == [0, 0]
    assert swaps["taken"][:2].tolist() == swaps["closed"][:2].tolist() == [1, 1]
    np.testing.assert_allclose(swaps["side"][:2], 2)  # spreads of yaw: what is asked for is not a side effect
    assert (swaps["identity"][:2] > 1).all()
    assert swaps["to_reference"][:2].tolist() == [0, 0]
