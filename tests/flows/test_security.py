"""Locked by default: secrets stay in the environment, services on loopback, and no request is answered without a password."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from flows import runs
from ganinv.errors import ConfigError
from tests.chaos.processes import free_port
from tests.flows.test_deployments import marked, wait_for

pytestmark = pytest.mark.xdist_group("ray")

ROOT = Path(__file__).parents[2]
KEY, SECRET, TOKEN = "GANINVTESTKEYID12345", "hunter2-secret-hunter2", "session-token-swordfish"

CHAIN = """
sample: {count: 120, unit_size: 60}
fit: {attributes: [smile], methods: [{method: interfacegan, tails: 0.25, estimator: ridge}], calibration: {samples: 8}}
invert: [{method: e4e, unit_size: 2}]
edit: [{latents: e4e, images: files, edits: [{name: "..", directions: {smile: 1}, strengths: [1]}]}]
evaluate: [{latents: e4e}]
report: {latents: [e4e], samples: samples, edits: edits}
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for Ray: its sockets must not lie deep."""
    with tempfile.TemporaryDirectory(prefix="gs", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("engine", ["inline", "ray"])
def test_credentials_are_written_nowhere(
    engine: str, s3_options: dict[str, str], faces: Path, tmp_path: Path, short: Path
) -> None:
    """A chain on S3 with its keys in the environment; then everything that it left is searched for them."""
    root = f"ganinv-test/secrets-{engine}"
    (tmp_path / "chain.yaml").write_text(CHAIN)
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_ENDPOINT_URL": s3_options["endpoint_url"],
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "RAY_TMPDIR": str(short),
    }
    environment.pop("RAY_AUTH_TOKEN_PATH", None)
    arguments = [f"--store=s3://{root}", f"--dataset={faces}", "--limit=2", f"--engine={engine}", "--slots=1"]
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "run", str(tmp_path / "chain.yaml"), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    secrets = [KEY, SECRET, TOKEN]
    assert not [secret for secret in secrets if secret in done.stdout + done.stderr]

    storage = fsspec.filesystem("s3", **s3_options)
    objects = storage.find(root)
    assert {"plan.json", "_manifest.json", "report.html", "direction.parquet"} <= {
        o.rpartition("/")[2] for o in objects
    }
    assert all(o.startswith(f"{root}/") and "/../" not in o for o in objects)
    for name in objects:
        content = storage.cat_file(name)
        assert not [s for s in secrets if s.encode() in content + readable(name, content)], name

    places = [tmp_path / "prefect", short]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "prefect.db" for path in files)
    assert engine == "inline" or any(path.name.startswith("raylet") for path in files)
    for path in files:
        assert not [s for s in secrets if s.encode() in path.read_bytes()], path


def readable(name: str, content: bytes) -> bytes:
    """What a Parquet file says when it is unpacked: metadata and text."""
    if not name.endswith(".parquet"):
        return b""
    table = pq.read_table(io.BytesIO(content))
    texts = [table[field.name].to_pylist() for field in table.schema if str(field.type) == "string"]
    return repr((table.schema.metadata, pq.read_metadata(io.BytesIO(content)).metadata, texts)).encode()


def answer(url: str, **headers: str) -> int:
    """The HTTP status; 0 while nothing answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def listening(mark: str) -> set[str]:
    """Addresses, in hexadecimal as the kernel shows them, on which the processes with this mark listen."""
    sockets = set()
    for pid in marked(mark):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link)):
                    sockets.add(match[1])
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(fields[1].partition(":")[0])
    return found


LOOPBACK = {"0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"}


def started(command: list[str], mark: str, folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A process of its own group, whose descendants carry the mark; its output is in ``folder/log``."""
    env = {**os.environ, "GANINV_TEST_MARK": mark, **environment}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *command], env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )


def end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Ask it to go, and end by id what of its descendants is left."""
    process.terminate()
    wait_for(lambda: process.poll() is not None, 30)
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A Prefect server with a password, as docs/security.md starts it: (address of its API, mark)."""
    folder, port, mark = tmp_path_factory.mktemp("prefect"), free_port(), "prefect-with-a-password"
    process = started(
        ["prefect", "server", "start", "--port", str(port), "--no-services"],
        mark,
        folder,
        PREFECT_HOME=str(folder),
        PREFECT_SERVER_API_AUTH_STRING="anna:hunter2",
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        assert wait_for(lambda: answer(f"{url}/health") == 200, 300), (folder / "log").read_text()
        yield url, mark
    finally:
        end(process, mark)


@pytest.mark.slow
def test_prefect_listens_on_loopback_and_refuses_requests_without_its_password(server: tuple[str, str]) -> None:
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    url, mark = server
    assert listening(mark)
    assert listening(mark) <= LOOPBACK
    assert answer(f"{url}/admin/version") == 401
    assert answer(f"{url}/admin/version", Authorization="Basic " + b64encode(b"anna:wrong").decode()) == 401
    assert answer(f"{url}/admin/version", Authorization="Basic " + b64encode(b"anna:hunter2").decode()) == 200
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(ConfigError, match="PREFECT_API_AUTH_STRING"):
        runs.list_runs(5)
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: "anna:hunter2"}):
        assert runs.list_runs(5) == []


TRY = """
from tasks.pool import WorkerSpec, open_pool
from tests.tasks.workers import FolderWorker, units_of
import sys
with open_pool("ray", slots=1, quiet=True) as pool:
    print(pool.run(WorkerSpec(FolderWorker, {"folder": sys.argv[1]}), units_of(4, 2)).ok)
"""


@pytest.mark.slow
def test_rays_dashboard_and_job_server_refuse_requests_without_the_token(tmp_path: Path, short: Path) -> None:
    """A head as deploy/docker-compose.yml starts it, but on loopback; who holds the token works on it."""
    mark, port, dashboard = "ray-with-a-token", free_port(), free_port()
    environment = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_TMPDIR": str(short),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    options = ["--head", "--block", f"--port={port}", "--num-cpus=1", "--include-dashboard=true"]
    options += [f"--dashboard-port={dashboard}", f"--temp-dir={short}"]
    process = started(["ray.scripts.scripts", "start", *options], mark, tmp_path, **environment)
    try:
        jobs = f"http://127.0.0.1:{dashboard}/api/jobs/"
        assert wait_for(lambda: answer(jobs) != 0, 240), (tmp_path / "log").read_text()
        assert answer(jobs) in (401, 403)
        assert answer(jobs, Authorization="Bearer " + "f" * 64) in (401, 403)
        assert wait_for(lambda: answer(jobs, Authorization=f"Bearer {environment['RAY_AUTH_TOKEN']}") == 200, 60)
        assert listening(mark) <= LOOPBACK

        driver = {**os.environ, **environment, "GANINV_TEST_MARK": mark, "RAY_ADDRESS": f"127.0.0.1:{port}"}
        command = [sys.executable, "-c", TRY, str(tmp_path)]
        done = subprocess.run(command, env=driver, capture_output=True, text=True, timeout=240, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-1] == "4"
    finally:
        end(process, mark)


HOSTILE = ["../../escape", "/etc/escape", "a/../../../escape", "..\\escape", "%2e%2e%2fescape"]


@pytest.mark.seconds
def test_names_of_images_cannot_leave_the_store(tmp_path: Path, faces: Path) -> None:
    """Ids come from a data set that others made: a table whose ids are paths is inverted and tuned like any other."""
    import pyarrow as pa

    from ganinv.store import open_store
    from tasks.engine import Engine, open_pools
    from tasks.sources import DatasetRef
    from tasks.steps.invert import InvertJob, run_invert

    image = next(iter(sorted(faces.iterdir()))).read_bytes()
    pq.write_table(pa.table({"image_id": HOSTILE, "image": [image] * len(HOSTILE)}), tmp_path / "in.parquet")
    store = tmp_path / "deep" / "down" / "store"
    overrides = {"stages": {1: {"steps": 1}, 2: {"steps": 1}}}
    job = InvertJob(
        store=str(store), dataset=DatasetRef(url=str(tmp_path / "in.parquet")), method="pti", overrides=overrides
    )
    began = time.time()
    with open_pools(Engine(kind="inline", quiet=True)) as pools:
        result = run_invert(job, pools)
    assert result["rows"] + result["failed"] == len(HOSTILE)
    assert result["rows"] > 0
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and store not in p.parents and p.stat().st_mtime > began]
    assert not outside
    uris = open_store(str(store)).latents["pti"].read(["extras_uri"])["extras_uri"].to_pylist()
    assert all(uri.startswith("latents/pti/extras/") and ".." not in uri.split("/") for uri in uris)
