"""Configurations: shipped files load, wrong ones are explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flows.chain import load_chain
from ganinv.config import config_names, config_path, load_yaml
from ganinv.errors import ConfigError
from ganinv.methods.registry import load_recipe
from ganinv.stages.method import method_config

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", config_names("methods"))
def test_every_method_loads(name: str) -> None:
    cfg = method_config(name)
    assert cfg.name == name
    assert cfg.digest == method_config(name).digest


def test_methods_named_in_the_readme_exist() -> None:
    table = (ROOT / "README.md").read_text().partition("## Methods")[2].partition("\n## ")[0]
    named = set(re.findall(r"`([a-z0-9-]+)`", table))
    assert len(named) > 30
    assert named <= set(config_names("methods"))


@pytest.mark.parametrize("name", config_names("chains"))
def test_every_chain_loads(name: str) -> None:
    chain = load_chain(name, store="memory://x", dataset={"url": "nowhere"})
    assert {job.store for job in (*chain.invert, *chain.edit, *chain.evaluate)} == {"memory://x"}
    seen = {job.dataset.url for job in chain.invert}
    if chain.align is None:
        assert seen == {str(Path("nowhere").absolute())}
    else:
        assert chain.align.dataset.url == str(Path("nowhere").absolute())
        assert all(url.endswith(f"/aligned/{chain.align.name}") for url in seen)


@pytest.mark.parametrize("name", config_names("training"))
def test_every_training_recipe_loads(name: str) -> None:
    assert load_recipe(name).kind == load_yaml(config_path("training", name))["kind"]


def test_what_is_said_of_a_recipe_goes_before_its_file() -> None:
    changed = load_recipe("portraits-64-e4e", {"steps": 7, "optimizer.lr": 0.5, "validation.every": 3})
    assert (changed.steps, changed.optimizer.lr, changed.validation.every) == (7, 0.5, 3)
    with pytest.raises(ConfigError, match=r"unknown key 'optimizer.muon.rl', did you mean"):
        load_recipe("portraits-64-e4e", {"optimizer.rl": 0.5})
    with pytest.raises(ConfigError, match="unknown training 'portraits-64-e4', did you mean 'portraits-64-e4e'"):
        load_recipe("portraits-64-e4")


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'w-projecton', did you mean 'w-projection'\?"):
        method_config("w-projecton")


def test_unknown_key_names_key_and_nearest(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: m\nsummary: s\nspace: w\nstages:\n  - {kind: optimize, stpes: 3}\n")
    with pytest.raises(ConfigError, match=r"unknown key 'stages.0.optimize.stpes', did you mean 'steps'\?"):
        method_config(str(path))


def test_wrong_value_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: m\nsummary: s\nspace: w\nstages:\n  - {kind: tune, steps: many}\n")
    with pytest.raises(ConfigError, match=r"stages.0.tune.steps: .*integer.*'many'"):
        method_config(str(path))


def test_overrides_of_a_stage() -> None:
    assert method_config("pti", stages={1: {"steps": 7}}).stages[1].steps == 7
    assert method_config("pti", stages={"1": {"steps": 7}}).stages[1].steps == 7  # as the command line says it
    with pytest.raises(ConfigError, match="has 3 stages, no stage 5"):
        method_config("pti", stages={5: {"steps": 7}})


def test_not_yaml(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("name: mine\nspace: [w")
    with pytest.raises(ConfigError, match=r"cannot read .*m\.yaml: [^$]*line 2[^$]*space: \[w"):
        method_config(str(path))
