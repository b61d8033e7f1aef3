"""What all tests share. Switches of Ray and Prefect act at import, so they are set here, before collection."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

from tests.artefacts import made_once
from tests.environment import found_by_environment
from tests.threads import threads

if TYPE_CHECKING:
    import torch

# Compiled modules are kept, whatever the environment says: else every process of the tests, and every one that a test starts,
# compiles all modules of ours anew, and pytest writes its assertions into all tests once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Several processes on a small machine would otherwise start cores x cores threads.
os.environ["OMP_NUM_THREADS"] = threads()
# A thread that waits for another sleeps. On a machine with more work than cores, spinning costs ten times the work itself.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Ray's workers would wait until nothing else has work, that is for the tests in other processes, and a test for them.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PREFECT_HOME" not in os.environ:  # not the user's own data base
    os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="ganinv-prefect-")
    atexit.register(shutil.rmtree, os.environ["PREFECT_HOME"], ignore_errors=True)
os.environ.pop("RAY_ADDRESS", None)  # tests start a Ray of their own, or join the one below by name

from flows.runtime import prepare_environment as prepare_prefect
from tasks.pool.ray_local import prepare_environment as prepare_ray


class _Loggers(dict[str, logging.Logger | logging.PlaceHolder]):
    def values(self) -> Any:
        return list(super().values())


# pytest goes through all loggers before each test, while a thread of another test may still be importing what makes more of them.
logging.Logger.manager.loggerDict = _Loggers(logging.Logger.manager.loggerDict)

gc.disable()  # until everything is collected: a third of that time went into looking for garbage among imports
sys.dont_write_bytecode = False  # the same of this process, which has read its environment
prepare_ray(local=True)
prepare_prefect()

pytest_plugins = ["tests.costs", "tests.sharing"]
REPOSITORY = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="of tests that take the fixture `device`: cpu, cuda, mps")


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the garbage collector need not look through it in every test."""
    gc.freeze()
    gc.enable()
    atexit.register(gc.unfreeze)  # nanobind reports what is never freed; pytest has looked for garbage by then


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """What ``--device`` names; a device that is not there ends the run rather than skip what was asked for."""
    import torch

    named = torch.device(request.config.getoption("--device"))
    try:
        torch.zeros(1, device=named)
    except (RuntimeError, AssertionError) as error:
        pytest.exit(f"--device {named} is not here: {error}", returncode=4)
    return named


@pytest.fixture(scope="session", autouse=True)
def faces_are_not_looked_at() -> Iterator[Callable[..., None]]:
    """Runs look in the background at where the faces of their photos lie, for a word of advice (``tasks.framing``): most of a
    second of a processor for each of some hundred inversions here, few of them of photos of faces. Tests of it, and some of whole
    runs, take ``faces_are_looked_at``."""
    from tasks.framing import FaceLook

    begin = FaceLook.begin
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaceLook, "begin", lambda *_: None)
        yield begin


@pytest.fixture(scope="module")
def faces_are_looked_at(faces_are_not_looked_at: Callable[..., None]) -> Iterator[None]:
    """As users have it: runs of this module say so if their photos' faces lie elsewhere than the generator's."""
    from tasks.framing import FaceLook

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaceLook, "begin", faces_are_not_looked_at)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden data and trained weights that are too large for the repository (``GANINV_SHARED``)."""
    folder = Path(os.environ.get("GANINV_SHARED") or REPOSITORY.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}: set GANINV_SHARED to run this test")
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weight files in the layouts of other programs (``tests.generators.made``), under the names of the recorded ones."""
    from tests.generators.made import make_files

    return made_once(tmp_path_factory, "weight-files", make_files)


@pytest.fixture(scope="session")
def demo_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's portraits and 28 of its small faces as PNG (``ganinv.data.demo``): to be read and copied."""
    from ganinv.data.demo import demo_dataset

    return made_once(tmp_path_factory, "demo", lambda folder: demo_dataset(folder, count=28))


@pytest.fixture(scope="session")
def faces(demo_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four real faces."""
    folder = tmp_path_factory.mktemp("faces")
    for path in sorted(demo_pictures.rglob("*.png"))[:4]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray for the whole test run (``tests.sharing``): loopback only, two CPUs, no dashboard."""
    from tasks.pool.ray_local import connected

    with connected(num_cpus=2, object_store_bytes=100 * 2**20):
        yield


@pytest.fixture(scope="session")
def local_prefect() -> Iterator[None]:
    """One Prefect server with a data base of its own for the whole test run (``tests.sharing``)."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=400):
        yield


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, str]]:
    """Storage options of an S3 server on this machine, with a bucket ``ganinv-test``."""
    moto_server = pytest.importorskip("moto.server")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"endpoint_url": f"http://{host}:{port}", "key": "test", "secret": "test"}
    fsspec.filesystem("s3", **options).mkdir("ganinv-test")
    yield options
    server.stop()


@pytest.fixture
def s3_environment(s3_options: dict[str, str]) -> Iterator[str]:
    """``s3://ganinv-test``, which code reaches without options."""
    names = {"endpoint_url": "AWS_ENDPOINT_URL", "key": "AWS_ACCESS_KEY_ID", "secret": "AWS_SECRET_ACCESS_KEY"}
    with found_by_environment({name: s3_options[option] for option, name in names.items()}):
        yield "s3://ganinv-test"


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """An empty URL of every kind of file system, with its storage options."""
    if request.param == "local":
        return str(tmp_path / "place"), {}
    root = uuid.uuid4().hex
    if request.param == "memory":
        return f"memory://{root}", {}
    return f"s3://ganinv-test/{root}", request.getfixturevalue("s3_options")


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URLs of the data sets that were listed in this process, as it happens."""
    from tasks.sources import DatasetRef

    urls: list[str] = []
    whole = DatasetRef.open

    def noted(self: DatasetRef, *known: Any) -> Any:
        urls.append(self.url)
        return whole(self, *known)

    monkeypatch.setattr(DatasetRef, "open", noted)
    return urls


@pytest.fixture(params=[1, 2], ids=["one-thread", "two-threads"])
def each_number_of_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Torch with one thread and with two: equality to the bit has to hold with each, however many the test run gives us."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)
