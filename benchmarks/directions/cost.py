"""What fitting directions takes: seconds of the whole path, and the peak memory of its steps.

Steps whose peak counts run in processes of their own: ``python -m benchmarks.directions.cost sample|fill|fit|stream ...``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tasks.engine import Engine, open_pools
from tasks.steps.fit import FitJob, run_fit
from tasks.steps.sample import SampleJob, run_sample

INLINE = Engine(kind="inline", quiet=True)


def whole_path(samples: dict[str, Any], fit: dict[str, Any], slots: int) -> dict[str, Any]:
    """Samples labelled and five directions fitted and calibrated, from an empty store, on worker processes; and the same in
    CPU seconds, which other programs on the machine change less.

    Args:
        samples, fit: fields of the jobs, without their store.
    """
    with tempfile.TemporaryDirectory(prefix="ganinv-directions-") as folder:
        jobs = [SampleJob(store=folder, **samples), FitJob.model_validate({"store": folder, **fit})]
        load = os.getloadavg()
        marks = [time.perf_counter()]
        with open_pools(Engine(slots=slots, quiet=True)) as pools:
            for step, job in zip((run_sample, run_fit), jobs, strict=True):
                step(job, pools)  # type: ignore[operator]
                marks.append(time.perf_counter())
        after, count = os.getloadavg(), min(1000, samples["count"])
        few = SampleJob(store=f"{folder}/cost", **{**samples, "count": count})
        cpu = [cpu_seconds(run_sample, few), cpu_seconds(run_fit, jobs[1].model_copy(update={"name": "again"}))]
    return {
        "samples": samples["count"],
        "slots": slots,
        "cores": os.cpu_count(),
        "sampling_seconds": marks[1] - marks[0],
        "fitting_seconds": marks[2] - marks[1],
        "load_before": load,
        "load_after": after,
        "cpu_seconds_sampling": cpu[0] / count * samples["count"],
        "cpu_seconds_fitting": cpu[1],
    }


def cpu_seconds(step: Any, job: Any) -> float:
    """Of one step, in this process."""
    before = time.process_time()
    with open_pools(INLINE) as pools:
        step(job, pools)
    return time.process_time() - before


def memory() -> dict[str, Any]:
    """Peaks in MiB with 20,000 and with 200,000 samples: of sampling, of fitting ten boundaries (SVC and ridge), and of
    principal components of W that is drawn as it is needed, there with 1,000,000, too."""
    out: dict[str, Any] = {}
    for count in (20_000, 200_000):
        with tempfile.TemporaryDirectory(prefix="ganinv-directions-") as folder:
            out[str(count)] = {"sample": measured("sample", f"{folder}/few", count)}
            measured("fill", folder, count)
            out[str(count)]["fit"] = measured("fit", folder, count)
    out["stream"] = {str(count): measured("stream", "", count) for count in (20_000, 1_000_000)}
    return out


def measured(step: str, folder: str, count: int) -> dict[str, float]:
    """Of a step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.directions.cost", step, folder, str(count)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(found.splitlines()[-1]))


def sample(folder: str, count: int, scored: int = 1000) -> None:
    """Samples of which a table labels ``scored``: rendering works on a few images at a time whatever their number, so it is
    left out, and a table of all of them would be memory of its own."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    Path(folder).mkdir(exist_ok=True)
    rng, ids = np.random.default_rng(0), [f"sample-{i:09d}" for i in range(scored)]
    columns = {name: rng.normal(size=scored).astype(np.float32) for name in "abcde"}
    pq.write_table(pa.table({"image_id": ids, **columns}), f"{folder}/labels.parquet")
    config = Path(folder) / "labels.yaml"
    config.write_text("kind: table\nname: noise\npath: labels.parquet\n")
    with open_pools(INLINE) as pools:
        run_sample(SampleJob(store=folder, count=count, labeller=str(config), unit_size=5000), pools)


def fill(folder: str, count: int) -> None:
    """Samples that are all labelled, to fit on."""
    sample(folder, count, count)


def fit_boundaries(folder: str, count: int) -> None:
    """Ten of them."""
    for config in ({"tails": 400, "estimator": "svc", "bootstrap": 1}, {"tails": 400, "estimator": "ridge"}):
        given = {"store": folder, "name": config["estimator"], "calibration": {"samples": 0}}
        with open_pools(INLINE) as pools:
            run_fit(FitJob.model_validate({**given, "methods": [{"method": "interfacegan", **config}]}), pools)


def stream_components(folder: str, count: int) -> None:
    """GANSpace in W without a store."""
    from ganinv.directions.fitting.ganspace import GanSpaceConfig, fit_ganspace
    from ganinv.directions.fitting.streams import stream_w
    from ganinv.generators.files import open_generator

    fit_ganspace(stream_w(open_generator("portraits-64"), count, 0), GanSpaceConfig(components=80))


def peak_mib() -> float:
    """Most memory that this process had at once. Not ``ru_maxrss``, which a process inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    steps = {"sample": sample, "fill": fill, "fit": fit_boundaries, "stream": stream_components}
    started = time.process_time()
    steps[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
    print(json.dumps({"peak_mib": peak_mib(), "cpu_seconds": time.process_time() - started}))
