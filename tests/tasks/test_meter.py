"""Metrics of a real run, as Prometheus would get them from the node's endpoint."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray

from tasks.pool import WorkerSpec, open_pool
from tests.tasks.workers import FolderWorker, units_of

SERIES = re.compile(r"^ray_(ganinv_\w+)\{(.*)\} (\S+)$", re.MULTILINE)


@pytest.mark.usefixtures("local_ray")
def test_the_nodes_endpoint_tells_images_failures_retries_seconds_and_the_queue(tmp_path: Path) -> None:
    folder = {"folder": str(tmp_path), "seconds": 0.05, "refuse": ["img-3", "img-9"], "raise_on": ["img-4"]}
    with open_pool("ray", slots=2, quiet=True) as pool:
        summary = pool.run(WorkerSpec(FolderWorker, folder), units_of(12, 3), label="metered")
        found = scrape(wanted=summary.ok)
    assert found["ganinv_images_total", "ok"] == summary.ok == 9
    assert found["ganinv_images_total", "refused"] == 2
    assert found["ganinv_images_total", "value_error"] == 1
    assert found["ganinv_retries_total", "raised"] == summary.retries > 0
    assert found["ganinv_worker_seconds_total", ""] > 9 * 0.05
    assert 0 < found["ganinv_cpu_seconds_total", ""] < found["ganinv_worker_seconds_total", ""]
    assert ("ganinv_gpu_seconds_total", "") not in found  # no slot held one
    assert found["ganinv_queue_units", "waiting"] == found["ganinv_queue_units", "running"] == 0
    assert ("ganinv_images_per_second", "") in found


def scrape(wanted: int) -> dict[tuple[str, str], float]:
    """(name, outcome or reason or state) -> value of the series of stage ``metered``, once they are there."""
    node = ray.nodes()[0]
    assert node["NodeManagerAddress"] == "127.0.0.1"  # loopback only
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    found: dict[tuple[str, str], float] = {}
    until = time.monotonic() + 90
    while found.get(("ganinv_images_total", "ok")) != wanted or ("ganinv_images_per_second", "") not in found:
        assert time.monotonic() < until, f"{url} has only {found}"
        time.sleep(0.5)
        with urllib.request.urlopen(url, timeout=30) as answer:
            text = answer.read().decode()
        for name, labels, value in SERIES.findall(text):
            tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if tags.get("stage") == "metered":
                found[name, tags.get("outcome") or tags.get("reason") or tags.get("state") or ""] = float(value)
    return found
