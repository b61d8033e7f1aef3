"""Projecting attributes out of a direction (InterFaceGAN, Shen et al. 2020, "conditional manipulation")."""

from __future__ import annotations

import numpy as np

from ganinv.errors import DataError


def project_out(vector: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """The unit vector of the part of ``vector`` that is orthogonal to every condition.

    One formula for any number of conditions: with C = conditions, solve the Gram system (C C^T) x = C v and subtract
    C^T x. Subtracting one condition after the other would be right only if they were orthogonal to each other. The
    system is solved as the least-squares problem C^T x = v it is the normal equation of, so linearly dependent
    conditions are no error.

    Args:
        vector: [D]. conditions: [K, D] (or [D] for one), of any norm.

    Returns:
        [D], float64, norm 1.

    Raises:
        DataError: shapes differ, or nothing is left of the vector.
    """
    v = np.asarray(vector, dtype=np.float64)
    c = np.atleast_2d(np.asarray(conditions, dtype=np.float64))
    if v.ndim != 1 or c.ndim != 2 or c.shape[1] != v.shape[0]:
        raise DataError(
            f"project_out takes a vector [D] and conditions [K, D], got {v.shape} and {np.asarray(conditions).shape}"
        )
    rest = v - c.T @ np.linalg.lstsq(c.T, v, rcond=None)[0] if len(c) else v
    length = np.linalg.norm(rest)
    if length <= 1e-6 * np.linalg.norm(v):
        raise DataError(
            "the direction lies in the span of its conditions, so nothing is left once they are projected out; "
            "condition it on fewer or other directions"
        )
    return rest / length
