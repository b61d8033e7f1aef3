"""S3 that throttles, breaks off and loses answers: every row arrives, and no image is blamed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import fsspec
import pyarrow as pa
import pytest

from ganinv.data import Dataset, open_dataset
from ganinv.data.index import GROUP, SourceIndex, write_index
from ganinv.data.source import Place, SourceRef
from ganinv.store import Plan, open_store
from ganinv.store.objects import Objects
from tasks.pool import WorkerSpec, open_pool
from tasks.pool import ledger as pool_ledger
from tests.chaos.proxy import FaultyProxy
from tests.chaos.workers import MeanWorker
from tests.data.pictures import encoded, noise

RUN = {"config_kwargs": {"retries": {"max_attempts": 0}}}  # the client's own tries are not what is tested


def make(root: str, options: Mapping[str, Any]) -> pa.Table:
    worker = WorkerSpec(MeanWorker, {"root": root, "options": options})
    collection = open_store(f"{root}/out", **options).latents["means"]
    plan = collection.start(Plan.of("invert", {}, {}, open_dataset(f"{root}/in", **options).ids, 4))
    with open_pool("inline", quiet=True) as pool:
        pool.run(worker, plan.units)
    collection.finish()
    assert collection.errors()["image_id"].to_pylist() == ["bad"]
    assert collection.status().done == 19
    return collection.read()


@pytest.fixture
def target(s3_options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("ganinv.store.retrying.PAUSES", [0.01] * 5)
    monkeypatch.setattr(pool_ledger, "LONGEST_PAUSE", 0.01)
    return urlsplit(s3_options["endpoint_url"]).netloc


@pytest.mark.seconds
@pytest.mark.parametrize(
    "shares",
    [{"lost": 0.2}, {"slow_down": 0.2, "cut": 0.15, "lost": 0.1}],
    ids=lambda shares: "-".join(shares),
)
def test_no_row_is_lost_and_no_image_blamed(s3_options: dict[str, str], target: str, shares: dict[str, float]) -> None:
    files, root = fsspec.filesystem("s3", **s3_options), f"ganinv-test/{uuid.uuid4().hex}"
    for k in range(19):
        files.pipe_file(f"{root}/in/image-{k}.png", encoded(noise(16, 16, seed=k)))
    files.pipe_file(f"{root}/in/bad.png", b"<html>")
    with FaultyProxy(target, shares, seed=1) as proxy:
        through = make(f"s3://{root}", {**s3_options, **RUN, "endpoint_url": proxy.url})
    assert all(proxy.hits[fault] >= 2 for fault in shares), proxy.hits
    files.rm(f"{root}/out", recursive=True)
    assert through.equals(make(f"s3://{root}", s3_options))


@pytest.mark.seconds
def test_where_images_are_is_read_with_patience(s3_options: dict[str, str], target: str) -> None:
    sources = {f"{k:04d}": SourceRef(uri=f"s3://x/{k}.png", path=f"x/{k}.png", length=k) for k in range(4 * GROUP)}
    whole, url = Dataset(Place("s3://x"), sources), f"s3://ganinv-test/{uuid.uuid4().hex}"
    ids, late = whole.ids[::1000], whole.ids[5::1000]
    with FaultyProxy(target, {"slow_down": 0.2, "cut": 0.1}, seed=2) as proxy:
        objects = Objects(url, {**s3_options, **RUN, "endpoint_url": proxy.url})
        write_index(whole, objects, "a", set(whole.ids) - set(late))
        index = SourceIndex(whole.place, objects, "a")
        assert dict(index.dataset(ids).sources) == {i: sources[i] for i in ids}
        write_index(whole, objects, "a", late)
        assert dict(index.dataset(late).sources) == {i: sources[i] for i in late}
    assert all(proxy.hits[fault] >= 2 for fault in ("slow_down", "cut")), proxy.hits


@pytest.mark.seconds
def test_a_plan_whose_answer_was_lost_is_this_runs_own(s3_options: dict[str, str], target: str) -> None:
    """The storage wrote it, the client asks once more and hears that it exists."""
    url, plan = f"s3://ganinv-test/{uuid.uuid4().hex}", Plan.of("invert", {}, {}, ["a", "b"], 1)
    with FaultyProxy(target, {"lost": 0.5}, seed=3) as proxy:
        store = open_store(url, **{**s3_options, **RUN, "endpoint_url": proxy.url})
        for name in ("one", "two", "three"):
            assert store.latents[name].start(plan) == plan
    assert proxy.hits["lost"] > 3
