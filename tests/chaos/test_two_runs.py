"""The same inversion submitted twice at the same moment, by two processes, into one store on S3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ganinv.store import open_store
from tests.chaos.storage import BUCKET, S3Server, put_images

METHOD = "{name: twice, summary: one pass, space: w+, batch_size: 8, stages: [{kind: encode, encoder: e4e}]}"


@pytest.mark.slow
def test_two_runs_at_once_make_one_table(tmp_path: Path) -> None:
    (tmp_path / "twice.yaml").write_text(METHOD)
    with S3Server("chaos-twice", tmp_path / "s3") as server:
        dataset = put_images(server, 80, 3, seed=0)
        command = [sys.executable, "-c", "from flows.cli import main; main()", "invert", f"--dataset={dataset}"]
        command += [f"--store=s3://{BUCKET}/s", f"--method={tmp_path / 'twice.yaml'}", "--engine=inline", "--json"]
        environment = {**os.environ, **server.environment, "OMP_NUM_THREADS": "1"}
        both = [
            subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        said = [process.communicate(timeout=400)[1] for process in both]
        assert [process.returncode for process in both] == [0, 0], "\n".join(said)
        options = {"endpoint_url": server.url, "key": "test", "secret": "test"}
        latents = open_store(f"s3://{BUCKET}/s", **options).latents["twice"]
        ids, failed = (table["image_id"].to_pylist() for table in (latents.read(["image_id"]), latents.errors()))
        assert (len(ids), len(failed)) == (len(set(ids)), len(set(failed))) == (77, 3)
        assert sorted(ids + failed) == sorted(latents.plan().ids)
        manifest = latents.manifest()
        assert manifest == latents.finish()  # what it says of each part is what the part is
