"""What README and tutorials tell people to type, typed as it stands: every command ends well.

Each page runs in a folder with the files that it speaks of, and with an S3 server for its buckets. Numbers are made smaller
(``SMALLER``), and this process computes where a page does not say who does. What is not run is in ``ELSEWHERE``, with the
test that does.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import ganinv
from flows.cli import whole_command
from tasks.steps.invert import InvertJob
from tests.artefacts import made_once
from tests.docs.test_commands import ROOT, commands

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/tutorials").glob("*.md"))]
SMALLER = {"5000": "300", "800": "2", "--gpus-per-slot=1": "--gpus-per-slot=0"}
"""What a page says -> what is enough here, or what this machine has."""
TUNES = {"pti": 2, "pti-w": 1}
"""Methods that tune a generator for each image, and in which stage: a few steps are enough here."""
ELSEWHERE = {
    "demo": "tests/pipeline/test_chain.py::test_every_step_filled_its_table",
    "edit --reference": "tests/tasks/test_edit_by_reference.py::test_attributes_are_taken_over_from_another_image",
    "import e4e_ffhq_encode.pt": "tests/encoders/test_published_to_latents.py::test_style_transformer_is_imported_and_inverts",
    "train --engine": "tests/tasks/test_train.py::test_trainings_on_s3_equal_those_on_files",
    "leaderboard": "tests/leaderboard/test_leaderboard.py::test_a_board_is_made_grown_and_drawn",
    "studio": "tests/studio/test_browser.py::test_upload_slide_compare_save",
    "submit": "tests/flows/test_runs.py::test_a_run_is_handed_over_with_its_whole_job",
    "runs": "tests/flows/test_runs.py::test_runs_are_listed",
}
"""Words of a command -> the test that runs it: it needs a Prefect server, a browser, hours, judges, or others' weights."""
READY = (
    "sample --store runs/mine --count 300",
    "fit --store runs/mine --estimator svc --name earlier",
    "directions fit --store runs/mine --estimator ridge",
    "invert --store runs/mine --dataset photos --method e4e",
    "invert --store runs/mine --dataset photos --method pti",
)
"""What pages that continue another have behind them: among it, two versions of each direction."""
BEGINNINGS = ("own-photos", "own-generator")


BLOCKS = {
    ("README.md", "python"): "test_every_command_of_a_page_ends_well",
    ("README.md", "sql"): "test_every_command_of_a_page_ends_well",
    ("bulk.md", "yaml"): "test_a_schedule_of_the_tutorial_is_a_deployment_of_ours",
}
"""Blocks that are not of the shell -> the test here that runs them."""
NOT_GANINV = {
    "make": "targets are looked up (test_targets_of_make_are_there); demo is tests/pipeline/test_chain.py, test is this",
    "pip": "extras are looked up (test_extras_are_there); an installation needs an index",
}
"""Other commands of the shell, and why they are not run."""


def pages() -> Iterator[Any]:
    """Those of which something is run here."""
    for page in PAGES:
        if any(elsewhere(words) is None for _, words in commands(page)):
            yield pytest.param(page, id=page.stem)


def elsewhere(words: list[str]) -> str | None:
    """The key of ``ELSEWHERE`` whose words are all in a command, the first at its head."""
    for key in ELSEWHERE:
        first, *more = key.split()
        if words[0] == first and set(more) <= set(words):
            return key
    return None


@pytest.mark.parametrize("key", ELSEWHERE)
def test_what_is_not_run_here_is_run_elsewhere(key: str) -> None:
    file, _, test = ELSEWHERE[key].partition("::")
    assert f"def {test}(" in (ROOT / file).read_text()
    assert any(elsewhere(words) == key for page in PAGES for _, words in commands(page)), f"no page says {key!r}"


def test_targets_of_make_are_there() -> None:
    named = {
        target
        for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
        for block in re.findall(r"^```(?:sh|console)\n(.*?)^```", page.read_text(), re.M | re.S)
        for target in re.findall(r"^make (\w+)", block, re.M)
    }
    assert named >= {"demo", "test", "setup", "quick", "lint"}
    assert named <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))


def test_every_block_is_run_or_says_why_not() -> None:
    for page in PAGES:
        for language, text in blocks(page):
            if language != "sh":
                assert f"def {BLOCKS[page.name, language]}(" in Path(__file__).read_text()
                continue
            for line in text.replace("\\\n", " ").splitlines():
                first = (shlex.split(line, comments=True) or ["ganinv"])[0]
                assert first == "ganinv" or first in NOT_GANINV, f"{page.name}: nothing runs {line!r}"


def test_extras_are_there() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in PAGES:
        for named in re.findall(r"pip install '?ganinv\[([\w,]+)\]", page.read_text()):
            assert set(named.split(",")) <= known.keys(), f"{page.name}: {named}"


def test_a_schedule_of_the_tutorial_is_a_deployment_of_ours() -> None:
    ((_, text),) = [each for each in blocks(ROOT / "docs/tutorials/bulk.md") if each[0] == "yaml"]
    (deployment,) = yaml.safe_load(text)["deployments"]
    ours = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert deployment["entrypoint"] in {each["entrypoint"] for each in ours}
    for schedule in deployment["schedules"]:
        InvertJob.model_validate(schedule["parameters"]["job"])


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of each fenced block."""
    return re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("page", pages())
def test_every_command_of_a_page_ends_well(
    page: Path, ready: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # README inverts with PTI itself, from a glob; beginnings have no store yet.
    without = shutil.ignore_patterns({"README": "pti"}.get(page.stem, "runs" if page.stem in BEGINNINGS else ""))
    shutil.copytree(ready, tmp_path, dirs_exist_ok=True, ignore=without)
    fill(bucket, ready)
    ran = 0
    for number, words in commands(page):
        if words[0] == "submit":  # what the worker would do
            words = ["invert", "--dataset", *words[1:-2]]
        elif elsewhere(words):
            continue
        if words[0] == "edit":  # of another day than the page's edits before
            shutil.rmtree(tmp_path / "runs/mine/edits", ignore_errors=True)
        run(here(words), f"{page.name}:{number}")
        ran += 1
    assert ran >= 4
    if page.name == "README.md":
        run_python_and_sql(page)
    for made in {
        "README": ["renders", "retouched", "runs/mine/reports"],
        "own-photos": ["renders", "for-others", "filled", "runs/mine/reports"],
        "own-generator": ["samples.png", "runs/mine/generators/ffhq/config.json", "ffhq.pt", "for-pti"],
        "train-an-encoder": ["runs/mine/encoders/mine/config.json"],
        "reuse-directions": ["smile.npz", "smile.png", "own_pca.pt", "smile.pt", "runs/other/directions/smile"],
    }.get(page.stem, []):
        assert (tmp_path / made).exists(), made


def run_python_and_sql(page: Path) -> None:
    """Its blocks in other languages, on the store that its commands made."""
    duckdb = pytest.importorskip("duckdb")
    for language, text in blocks(page):
        text = text.replace("runs/demo", "runs/mine")
        text = text.replace('"pti", generator=g', '"pti", generator=g, stages={2: {"steps": 4}}')
        if language == "python":
            names: dict[str, Any] = {"images": torch.rand(1, 3, 64, 64) * 2 - 1, "ids": ["a"]}
            exec(text, names)
            assert names["pictures"].shape == (1, 3, 64, 64)
        elif language == "sql":
            assert duckdb.sql(text).fetchall()


def here(words: list[str]) -> list[str]:
    """A command with less to do, in this process."""
    typed = shlex.split(shlex.join(words).replace("--gpus-per-slot 1", "--gpus-per-slot=1"))
    typed = [SMALLER.get(word, word) for word in typed]
    flags = flags_of(typed)
    if "--engine" in flags and "--engine" not in typed:
        typed += ["--engine", "inline"]
    if "--calibration" in flags:
        typed += ["--calibration", "samples=8"]
    if typed[0] == "invert" and (tuned := TUNES.get(typed[typed.index("--method") + 1])):
        typed += ["--override", f"stages.{tuned}.steps=4"]
    if typed[0] == "train":
        typed += ["--set", "batch_size=4", "--set", "validation.images=4"]
        typed += [] if "--steps" in typed else ["--steps", "2"]
    return typed


def flags_of(words: list[str]) -> set[str]:
    command = whole_command()
    for word in words:
        if not hasattr(command, "commands"):
            break
        command = command.commands[word]
    context = command.make_context("ganinv", [], resilient_parsing=True)
    return {flag for parameter in context.command.get_params(context) for flag in parameter.opts}


def run(words: list[str], where: str) -> None:
    try:
        code = whole_command()(words, standalone_mode=False)
    except Exception as error:
        raise AssertionError(f"{where}: ganinv {shlex.join(words)}: {error}") from error
    assert code in (None, 0), f"{where}: ganinv {shlex.join(words)} ends with {code}"


@pytest.fixture(scope="module")
def ready(demo_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that pages speak of, and a store with two versions of each direction. To be copied."""

    def make(folder: Path) -> None:
        (folder / "photos").mkdir(parents=True)
        (folder / "masks").mkdir()
        for picture in sorted(demo_pictures.rglob("*.png"))[:2]:
            photo = folder / "photos" / f"{picture.stem}.jpg"
            with Image.open(picture) as image:
                image.convert("RGB").save(photo, quality=95)
                hole = Image.new("L", image.size)
            hole.paste(255, (hole.width // 4, hole.height // 4, hole.width // 2, hole.height // 2))
            hole.save(folder / "masks" / f"{picture.stem}.png")
        before = Path.cwd()
        os.chdir(folder)
        try:
            for command in READY:
                run(here(command.split()), command)
            files_of_others(folder)
        finally:
            os.chdir(before)

    return made_once(tmp_path_factory, "tutorials", make)


def files_of_others(folder: Path) -> None:
    """``ffhq.pkl``, ``age.pt``, ``ffhq_pca.pt`` and ``projected_w.npz``, as others might have made them."""
    g = ganinv.open_generator("portraits-64")
    g.synthesis.const.data.mul_(1.01)
    ganinv.save_generator(g, str(folder / "ffhq.pkl"), "rosinality")
    rng = torch.Generator().manual_seed(0)
    torch.save(torch.randn(1, g.w_dim, generator=rng), folder / "age.pt")
    np.savez(folder / "projected_w.npz", w=g.w_mean.expand(1, g.num_ws, -1).numpy())
    components = torch.linalg.qr(torch.randn(512, 8, generator=rng))[0].T.contiguous()
    pca = {"comp": components[:, None], "mean": torch.zeros(1, 512), "std": torch.linspace(2, 0.5, 8)}
    torch.save(pca, folder / "ffhq_pca.pt")


@pytest.fixture
def bucket(s3_environment: str, s3_options: Mapping[str, str]) -> Iterator[str]:
    """``s3://bucket``, on the test's own server, for code that opens it without options."""
    fs = fsspec.filesystem("s3", **s3_options)
    if not fs.exists("bucket"):
        fs.mkdir("bucket")
    yield "s3://bucket"
    fs.rm("bucket", recursive=True)


def fill(bucket: str, ready: Path) -> None:
    """The photos, and the directions of the store, in the bucket."""
    fs, root = fsspec.url_to_fs(bucket)
    fs.put(str(ready / "photos"), f"{root}/photos", recursive=True)
    fs.put(str(ready / "runs/mine/directions"), f"{root}/store/directions", recursive=True)
