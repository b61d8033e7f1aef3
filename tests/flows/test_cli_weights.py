"""Commands for weight files, against a real file host where they download."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from ganinv.generators.files import open_generator, save_generator
from ganinv.reading import download
from tests.flows.conftest import Run
from tests.reading.host import PAGE, Host, cached, serving
from tests.tiny import tiny_generator


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    """Has a tiny generator of 32x32 and a quota page. Downloads go to a cache of the test's own."""
    monkeypatch.setenv("GANINV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "WAITS", (0.01, 0.01))
    save_generator(tiny_generator(), str(tmp_path / "tiny.pt"), "nvidia")
    with serving() as host:
        host.files = {"/tiny.pkl": (tmp_path / "tiny.pt").read_bytes(), "/page.pkl": PAGE}
        yield host


def catalogue(folder: Path, host: Host, **changes: Any) -> str:
    """A catalogue with the host's files: its option."""
    entry = {"url": f"{host.url}/tiny.pkl", "licence": "free", "resolution": 32, "notes": "Noise."}
    licence = {"name": "Licence of the test", "summary": "Look, do not touch.", "url": "https://host/licence"}
    entries = {"noise-32": entry | changes, "page-32": entry | {"url": f"{host.url}/page.pkl"}}
    entries["gone-32"] = entry | {"url": f"{host.url}/gone.pkl"}
    (folder / "catalogue.yaml").write_text(yaml.safe_dump({"licences": {"free": licence}, "generators": entries}))
    return f"--catalogue={folder / 'catalogue.yaml'}"


@pytest.mark.parametrize("command", ["inspect", "import", "export", "catalogue"])
def test_help(run: Run, command: str) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: ganinv {command}" in out


def test_the_catalogue_is_listed_with_its_licences(run: Run) -> None:
    code, out, _ = run("catalogue")
    assert code == 0
    assert "ffhq-1024" in out
    assert "Non-commercial" in out
    entries = json.loads(run("catalogue", "--json")[1])
    assert {"name", "url", "licence", "resolution", "family", "sha256", "notes"} == set(entries[0])
    assert entries[0]["licence"]["url"].startswith("https://")


@pytest.mark.seconds
def test_inspect_in_words_and_as_json(run: Run, made: Path, tmp_path: Path) -> None:
    file = made / "nvidia/ada_r32_cifar_like.pkl"
    code, out, _ = run("inspect", file, "--grid", tmp_path / "deep/grid.png", "--seed=3")
    assert code == 0
    assert out.startswith("A StyleGAN2 generator (nvidia layout) of 32x32 images, conditional on 10 classes")
    assert "networks: G (generator, nvidia), D (discriminator, nvidia), G_ema (generator, nvidia)" in out
    assert f"fingerprint: {open_generator(str(file)).fingerprint}" in out
    assert "computed: w_std (samples 10000, seed 123)" in out
    assert Image.open(tmp_path / "deep/grid.png").size == (6 * 32, 4 * 32)
    code, out, _ = run("inspect", file, "--json")
    assert code == 0
    assert json.loads(out)["generator"]["c_dim"] == 10


def test_inspect_refuses_with_exit_code_two(run: Run, made: Path, tmp_path: Path) -> None:
    code, out, err = run("inspect", made / "bad/quota_page.pkl")
    assert (code, out) == (2, "")
    assert "it is a web page, not a checkpoint" in err
    code, _, err = run("inspect", tmp_path / "nothing")
    assert code == 2
    assert "no generator at" in err


def test_a_grid_of_an_encoder(run: Run, made: Path, tmp_path: Path) -> None:
    file = made / "encoders/idinvert_encoder_r64.pth"
    assert run("inspect", file)[1].startswith("An encoder (in-domain, StyleGANEncoderNet)")
    code, _, err = run("inspect", file, "--grid", tmp_path / "grid.png")
    assert code == 1
    assert "needs a generator" in err
    assert not (tmp_path / "grid.png").exists()


def test_names_in_a_file_do_not_speak_to_the_terminal(run: Run, tmp_path: Path) -> None:
    torch.save({"[/bold]\x1b[31m": torch.zeros(1)}, tmp_path / "evil.pt")
    code, _, err = run("inspect", tmp_path / "evil.pt")
    assert code == 2
    assert "[/bold]" in err
    assert "\x1b[31m" not in err
    opts = {"encoder_type": "WEncoder", "output_size": 32, "note": "[/bold]\x1b[31m"}
    torch.save({"state_dict": {"encoder.linear.weight": torch.zeros(1)}, "opts": opts}, tmp_path / "opts.pt")
    code, out, _ = run("inspect", tmp_path / "opts.pt")
    assert code == 0
    assert "[/bold]\\x1b[31m" in out


@pytest.mark.seconds
def test_import_by_name(run: Run, host: Host, tmp_path: Path) -> None:
    """Licence first, then the download; the second run has it all."""
    store, listed = f"--store={tmp_path / 'store'}", catalogue(tmp_path, host)
    code, out, err = run("import", "noise-32", store, listed)
    assert code == 0
    assert err.index("Licence of the test. Look, do not touch. https://host/licence") < err.index("tiny.pkl")
    assert f"in commands: --generator {tmp_path / 'store'}/generators/noise-32" in out
    assert hashlib.sha256(host.files["/tiny.pkl"]).hexdigest() in out
    code, out, _ = run("import", "noise-32", store, listed, "--json")
    (one,) = json.loads(out)
    assert (code, one["already"], one["name"]) == (0, True, "noise-32")
    assert one["origin"]["licence"]["name"] == "Licence of the test"
    assert [path for path, _ in host.asked] == ["/tiny.pkl"]
    assert open_generator(one["uri"]).fingerprint == tiny_generator().fingerprint


@pytest.mark.seconds
def test_an_imported_generator_runs_a_step(run: Run, host: Host, tmp_path: Path, made: Path) -> None:
    file = made / "rosinality/ros_r64_narrow.pt"
    code, out, _ = run("import", file, f"--store={tmp_path}", "--name=mine", "--json")
    assert code == 0
    (one,) = json.loads(out)
    code, out, _ = run(
        "sample", f"--store={tmp_path}", "--count=4", f"--generator={one['uri']}", "--engine=inline", "--json"
    )
    assert code == 0
    assert json.loads(out)["rows"] == 4


def test_a_broken_download_is_resumed_by_the_next_run(run: Run, host: Host, tmp_path: Path) -> None:
    listed = catalogue(tmp_path, host)
    host.cuts = [100_000, 0, 0]
    code, _, err = run("import", "noise-32", f"--store={tmp_path / 'store'}", listed)
    assert code == 1
    assert "100000 bytes of it are kept, run again to continue" in err
    assert not (tmp_path / "store").exists()
    assert run("import", "noise-32", f"--store={tmp_path / 'store'}", listed)[0] == 0
    assert host.asked[-1] == ("/tiny.pkl", "bytes=100000-")
    assert len(cached()) == 1


@pytest.mark.seconds
def test_a_killed_import_is_resumed(run: Run, host: Host, tmp_path: Path) -> None:
    listed, store = catalogue(tmp_path, host), f"--store={tmp_path / 'store'}"
    save_generator(tiny_generator(), str(tmp_path / "large.pt"), "nvidia", extra={"ballast": torch.rand(500_000)})
    host.files["/tiny.pkl"] = (tmp_path / "large.pt").read_bytes()
    host.hold = threading.Event()
    code = "from flows.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "import", "noise-32", store, listed],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 120
    while sum(path.stat().st_size for path in cached()) < 900_000 and time.monotonic() < end:
        time.sleep(0.05)
    process.kill()
    process.wait()
    host.hold.set()
    host.hold = None
    (kept,) = [path.stat().st_size for path in cached() if not path.name.endswith(".json")]
    assert kept >= 900_000
    assert run("import", "noise-32", store, listed)[0] == 0
    assert host.asked[-1] == ("/tiny.pkl", f"bytes={kept}-")
    assert open_generator(f"{tmp_path}/store/generators/noise-32").fingerprint == tiny_generator().fingerprint


def test_hashes_are_checked(run: Run, host: Host, tmp_path: Path) -> None:
    digest = hashlib.sha256(host.files["/tiny.pkl"]).hexdigest()
    store = f"--store={tmp_path / 'store'}"
    code, _, err = run("import", "noise-32", store, catalogue(tmp_path, host, sha256="0" * 64))
    assert code == 1
    assert f"its sha256 is {digest}, expected 0000" in err
    assert cached() == []
    code, _, err = run("import", "noise-32", store, catalogue(tmp_path, host), "--sha256=" + "1" * 64)
    assert code == 1
    assert cached() == []
    assert not (tmp_path / "store").exists()
    assert run("import", "noise-32", store, catalogue(tmp_path, host, sha256=digest))[0] == 0
    assert [path.name for path in cached()] == [f"sha256-{digest}"]
    code, _, err = run("import", "noise-32", store, "--sha256=12")
    assert code == 1
    assert "64 hexadecimal digits" in err


def test_a_file_of_another_resolution_is_refused(run: Run, host: Host, tmp_path: Path) -> None:
    code, _, err = run("import", "noise-32", f"--store={tmp_path / 'store'}", catalogue(tmp_path, host, resolution=64))
    assert code == 1
    assert "makes images of 32x32, the catalogue says that 'noise-32' makes 64x64" in err
    assert not (tmp_path / "store").exists()


def test_a_quota_page_and_a_missing_file(run: Run, host: Host, tmp_path: Path) -> None:
    store, listed = f"--store={tmp_path / 'store'}", catalogue(tmp_path, host)
    code, _, err = run("import", "page-32", store, listed)
    assert code == 1
    assert "it is a web page, not a checkpoint (titled 'Google Drive - Quota exceeded')" in err
    code, _, err = run("import", "gone-32", store, listed)
    assert code == 1
    assert f"no generator at '{host.url}/gone.pkl'" in err
    assert cached() == []
    assert not (tmp_path / "store").exists()


def test_inspect_of_a_url(run: Run, host: Host, tmp_path: Path) -> None:
    code, out, err = run("inspect", f"{host.url}/tiny.pkl", "--json")
    assert code == 0
    assert json.loads(out)["generator"]["resolution"] == 32
    code, _, err = run("inspect", f"{host.url}/page.pkl")
    assert code == 2
    assert "it is a web page" in err


@pytest.mark.seconds
def test_export(run: Run, made: Path, tmp_path: Path) -> None:
    file, to = made / "nvidia/ada_r32_uncond.pkl", tmp_path / "out/g.pt"
    code, out, _ = run("export", file, to, "--format=rosinality", "--json")
    assert code == 0
    assert json.loads(out)["fingerprint"] == open_generator(str(file)).fingerprint
    assert open_generator(str(to)).provenance.layout == "rosinality"  # type: ignore[union-attr]
    code, _, err = run("export", file, to, "--format=rosinality")
    assert code == 1
    assert "there is something at" in err
    conditional = made / "nvidia/ada_r32_cifar_like.pkl"
    code, _, err = run("export", conditional, tmp_path / "c.pt", "--format=rosinality")
    assert code == 1
    assert "the rosinality layout cannot hold this generator: it is conditional" in err
