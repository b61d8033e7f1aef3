"""The demo: the chain ``configs/chains/demo.yaml`` on real portraits that need no download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.chain import chain, load_chain
from ganinv.data.demo import demo_dataset
from ganinv.errors import RunConflict
from ganinv.store import open_store
from tasks.engine import Engine


def run_demo(store: str, dataset: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
    """Run or resume the demo on ``dataset``: fields of a ``DatasetRef``. Without a ``url`` it is the built-in portraits,
    written to ``<store>/inputs`` first."""
    if "url" not in dataset:
        # Beside a local store; a remote store's inputs stay on this machine, where the workers of the demo are.
        root = open_store(store)
        folder = Path(root.url) if root.objects.is_local else Path("runs/demo-inputs").absolute()
        dataset = {**dataset, "url": str(demo_dataset(folder / "inputs"))}
    job = load_chain("demo", store=store, dataset=dataset, engine=engine.model_dump())
    try:
        return chain(job)
    except RunConflict as conflict:  # what the demo does may change with the code
        raise RunConflict(
            f"an older demo, or another run, is in {store}: remove it, or give --store. {conflict}"
        ) from None
