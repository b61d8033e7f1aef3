"""The editing cases recorded from the original code, by way of files, the store and ``Edit``: within 1e-6."""

from __future__ import annotations

import uuid
from pathlib import Path

import numpy as np
import pytest
import torch

from ganinv.codes.code import Code
from ganinv.directions.exchange.declared import DeclaredGenerator
from ganinv.directions.exchange.importing import import_directions
from ganinv.editing import Edit
from ganinv.store import Store, open_store

TOY = DeclaredGenerator("toy", 64, w_dim=64)  # ten rows of 64


@pytest.fixture
def store() -> Store:
    return open_store(f"memory://{uuid.uuid4().hex}")


def put(store: Store, path: Path, **how: object) -> None:
    for direction in import_directions(str(path), TOY, **{"space": "w", **how}):  # type: ignore[arg-type]
        store.directions.put(direction)


def edited(
    store: Store, w: np.ndarray, strengths: dict[str, object], conditions: list[str] | None = None
) -> np.ndarray:
    edit = Edit(strengths, conditions, trust=["primal", "cond1", "cond2", "cond3", "cond4", "pca-04", "pca-11"])  # type: ignore[arg-type]
    return edit.apply(Code(w=torch.tensor(w)), store, "f" * 64).w.numpy()


def close(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, atol=1e-6, rtol=0)


def test_interfacegan(shared: Path, tmp_path: Path, store: Store) -> None:
    golden = np.load(shared / "golden/editing/interfacegan.npz")
    for name in ("primal", "cond1", "cond2", "cond3", "cond4"):
        np.save(tmp_path / f"{name}.npy", golden[name])
        put(store, tmp_path / f"{name}.npy")
    wplus = np.repeat(golden["wplus"], 5, axis=0)
    close(edited(store, wplus, {"primal": torch.linspace(-2, 4, 5)}), golden["interp_wplus"])
    put(store, tmp_path / "primal.npy", mode="absolute")  # a second version
    w = np.repeat(golden["w"][:, None], 10, axis=1).repeat(7, axis=0)
    close(edited(store, w, {"primal@2": torch.linspace(-3, 3, 7)})[:, 0], golden["interp_w"])
    for count in range(5):
        conditions = [f"cond{i + 1}" for i in range(count)]
        step = edited(store, golden["wplus"] * 0, {"primal@1": 1.0}, conditions)
        close(step[0], np.repeat(golden[f"project_{count}"], 10, axis=0))


def test_ganspace_in_the_e4e_form(shared: Path, tmp_path: Path, store: Store) -> None:
    golden = np.load(shared / "golden/editing/ganspace.npz")
    basis = {key: torch.tensor(golden[key]) for key in ("mean", "comp", "std")}
    torch.save(basis, tmp_path / "toy_pca.pt")
    put(store, tmp_path / "toy_pca.pt", space=None, mode="absolute-first-row")
    want = golden["edited"].reshape(3, 2, 10, 64)
    for j, (index, start, end, strength) in enumerate(golden["directions"]):
        reference = f"E(v{int(index)},{int(start)}-{int(end) - 1})"
        close(edited(store, golden["latents"], {reference: strength}), want[:, j])
