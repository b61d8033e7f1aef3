"""Encoders that ship with the embedded generator: trained by their recipe, measured, and written with a model card.

``python -m benchmarks.assets make --only encoders`` trains what is not of today's generator and recipe. An encoder's model
card says its errors on three sets that nothing of it was chosen on: samples of the generator, portraits it learnt from,
and others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Template
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import digest
from ganinv.data import open_dataset
from ganinv.data.png import png_bytes
from ganinv.degradations.degrade import DegradeConfig, DegradedImages, degrade
from ganinv.generators.files import WeightType, open_generator
from ganinv.generators.sampling import sample_z
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import open_labeller
from ganinv.methods.base import Inverter
from ganinv.methods.files import ASSETS, is_shipped, open_inverter, save_inverter
from ganinv.methods.reference_editor import ReferenceEditor
from ganinv.methods.registry import load_recipe
from ganinv.store import open_store
from ganinv.store.tensors import parquet_table
from tasks.summary import TABLE

MIB = 2**20
SEED = 50_000
"""Of the samples that encoders are measured on; nothing else here uses it."""
IMAGES = 156
"""Of each of the three sets: as many as the test split has."""


@dataclass(frozen=True)
class Shipped:
    """One that ships.

    Attributes:
        minutes: of its training, on two quiet cores.
        weights: as which they are written.
        limit: MiB of them at most, since everybody downloads them with the package.
    """

    recipe: str
    minutes: float
    weights: WeightType = "float16"
    limit: float = 2.5


SHIPPED: Mapping[str, Shipped] = {
    "e4e": Shipped("portraits-64-e4e", 10, "int8"),
    "sfe": Shipped("portraits-64-sfe", 28, limit=5),
    "sfe-editor": Shipped("portraits-64-sfe-editor", 12),
    "restyle": Shipped("portraits-64-restyle", 20, "int8"),
    "hfgi": Shipped("portraits-64-hfgi", 25),
    "w": Shipped("portraits-64-w", 6),
    "hyperstyle": Shipped("portraits-64-hyperstyle", 50),
    "psp": Shipped("portraits-64-psp", 14),
    "in-domain": Shipped("portraits-64-in-domain", 22),
    "padinv": Shipped("portraits-64-padinv", 22),
    "style-transformer": Shipped("portraits-64-style-transformer", 15),
    "e2style": Shipped("portraits-64-e2style", 22),
    "interestyle": Shipped("portraits-64-interestyle", 22),
    "uda": Shipped("portraits-64-uda", 11),
    "invertfill": Shipped("portraits-64-invertfill", 25),
    "sam": Shipped("portraits-64-sam", 15),
    "psp-super-resolution": Shipped("portraits-64-psp-super-resolution", 10),
    "psp-inpainting": Shipped("portraits-64-psp-inpainting", 10),
    "restyle-e4e": Shipped("portraits-64-restyle-e4e", 15),
    "lsap": Shipped("portraits-64-lsap", 10),
    "reference-editor": Shipped("portraits-64-reference-editor", 5),
}
"""By the name under which methods find them, those that others need first. Not all are there yet: ``plan`` says which."""


def is_current(name: str, generator: Generator) -> bool:
    """Whether the shipped one is of this generator and of today's recipe."""
    record = _record(name)
    wanted = (generator.fingerprint, _recipe_digest(name))
    return (record.get("generator_fingerprint"), record.get("recipe_digest")) == wanted


def ship(name: str, store: str, data: str) -> None:
    """Train it in ``store`` on the train split of ``data`` (or go on doing so), measure it, write it beside its model card."""
    recipe, generator = SHIPPED[name].recipe, open_generator("portraits-64")
    command = ["train", recipe, "--store", store, "--name", name, "--dataset", data, "--where", "split=train"]
    subprocess.run([sys.executable, "-c", "from flows.cli import main; main()", *command], check=True)
    training = open_store(store).collection("training", name)
    runs = parquet_table(training.objects.read(f"{training.path}/{TABLE}"))
    seconds = sum(runs["seconds"].to_pylist())
    inverter = open_inverter(f"{store}/encoders/{name}", generator=generator)
    name_what_ships(inverter, load_recipe(recipe).needed)
    # What is trained on top of it is to start from what ships, whose weights are rounded, and not from the store's.
    open_store(store).objects.remove_folder(f"encoders/{name}")
    write(name, inverter, seconds, data)


def write(name: str, inverter: Inverter, seconds: float, data: str) -> None:
    """Round what was trained in ``seconds``, measure what is left of it, and write it beside its model card."""
    shipped, generator, folder = SHIPPED[name], inverter.generator, ASSETS / name
    recipe = load_recipe(shipped.recipe)
    origin = {
        "recipe": shipped.recipe,
        "recipe_digest": _recipe_digest(name),
        "steps": recipe.steps,
        "seed": recipe.seed,
        "seconds": round(seconds),
    }
    save_inverter(inverter, str(folder), generator=generator, dtype=shipped.weights, extra=origin)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if size > shipped.limit * MIB:
        raise ValueError(f"{folder} has {size / MIB:.2f} MiB of weights, more than the {shipped.limit:g} that may ship")
    rounded = open_inverter(name, generator=generator)
    if isinstance(rounded, ReferenceEditor):
        origin["measured"] = measure_by_reference(rounded, generator, data)
        drawn = picture_by_reference(rounded, generator, data)
    else:
        degrading = always_degraded(shipped.recipe)
        origin["measured"] = measure(rounded, generator, data, degrading)
        drawn = picture(rounded, generator, data, degrading)
    described = folder / "config.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"measured": origin["measured"]}, indent=2))
    (folder / "MODEL_CARD.md").write_text(card(name, rounded, origin, size))
    (folder / "reconstructions.png").write_bytes(drawn)


def always_degraded(recipe: str) -> DegradeConfig | None:
    """What a recipe takes away from every image that its inverter sees; one that also sees clean images is measured on these."""
    cfg = load_recipe(recipe).data.degrade
    return cfg if cfg is not None and cfg.share == 1 else None


def name_what_ships(inverter: Inverter, needed: Mapping[str, str]) -> None:
    """Let an inverter start from those that ship, by name, in place of the ones in the store that it was trained on: the same
    weights before they were rounded. Its folder then names them and does not hold them again.

    Args:
        needed: of its recipe, role -> name.
    """
    for role, name in needed.items():
        if role in inverter.needed and is_shipped(name):
            inverter.needed[role] = open_inverter(name, generator=inverter.generator)


@torch.inference_mode()
def measure(
    inverter: Inverter, generator: Generator, data: str, degrading: DegradeConfig | None = None
) -> dict[str, float]:
    """Mean squared error, in [-1, 1], on fresh samples (psi 0.9), on images of the train split, and on the test split.

    Args:
        degrading: what is taken away from the images that it sees.
    """
    z = sample_z(SEED, range(IMAGES), generator.z_dim)
    samples = generator.render(Code(w=generator.map(z, truncation_psi=0.9))).clamp(-1, 1)
    sets = {"samples": samples, "train": split(data, "train", generator), "test": split(data, "test", generator)}
    return {name: round(error(inverter, generator, images, degrading), 5) for name, images in sets.items()}


def error(inverter: Inverter, generator: Generator, images: Tensor, degrading: DegradeConfig | None = None) -> float:
    """Mean squared error of reconstructions of images [N, C, R, R] in [-1, 1]."""
    seen = degraded(images, degrading)
    rendered = [
        generator.render(inverter(some, holes=holes)).clamp(-1, 1)
        for some, holes in zip(seen.images.split(16), seen.holes.split(16), strict=True)
    ]
    return float((torch.cat(rendered) - images).square().mean())


def degraded(images: Tensor, cfg: DegradeConfig | None) -> DegradedImages:
    """As an inverter is shown them, the same every time."""
    if cfg is None:
        return DegradedImages(images, images.new_zeros(len(images), 1, *images.shape[2:]))
    everyone = range(len(images))
    return degrade(images, cfg, [SEED + n for n in everyone], list(everyone))


def split(data: str, name: str, generator: Generator) -> Tensor:
    """The first images of one split, [N, C, R, R] in [-1, 1]."""
    dataset = open_dataset(data, where={"split": name})
    return dataset.load(sorted(dataset.ids)[:IMAGES], generator.resolution).images


@torch.inference_mode()
def picture(inverter: Inverter, generator: Generator, data: str, degrading: DegradeConfig | None = None) -> bytes:
    """Twelve test portraits, as the inverter sees them, above their reconstructions, as PNG."""
    seen = degraded(split(data, "test", generator)[:12], degrading)
    made = generator.render(inverter(seen.images, holes=seen.holes)).clamp(-1, 1)
    return png_bytes(torch.cat([torch.cat(list(row), dim=2) for row in (seen.images, made)], dim=1))


@torch.inference_mode()
def by_reference(
    editor: ReferenceEditor, generator: Generator, data: str
) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    """Test portraits as the editor's encoder renders them, those that each takes from, and with each attribute of these."""
    sources = editor.reference_code(split(data, "test", generator))
    references = sources[[(k + IMAGES // 2) % len(sources) for k in range(len(sources))]]
    made = {
        name: generator.render(editor.edit_by_reference(sources, references, [name])).clamp(-1, 1)
        for name in editor.cfg.attributes
    }
    return generator.render(sources).clamp(-1, 1), generator.render(references).clamp(-1, 1), made


def measure_by_reference(editor: ReferenceEditor, generator: Generator, data: str) -> dict[str, float]:
    """Of test portraits whose reference differs in an attribute, the share that came to have the reference's, seen by the
    labeller that the editor learned from; and the squared error to the source."""
    source, reference, made = by_reference(editor, generator, data)
    labeller = open_labeller("portraits-64")
    before, wanted = labeller(source), labeller(reference)
    found: dict[str, float] = {}
    for name, images in made.items():
        differ = (before[name] > 0) != (wanted[name] > 0)
        same = (labeller(images)[name] > 0) == (wanted[name] > 0)
        found[f"took {name} over, of {int(differ.sum())} pairs that differ in it"] = round(
            float(same[differ].float().mean()), 2
        )
        found[f"squared error to the source, {name}"] = round(float((images - source).square().mean()), 4)
    return found


def picture_by_reference(editor: ReferenceEditor, generator: Generator, data: str) -> bytes:
    """Twelve test portraits, what they take from, and a row for each attribute, as PNG."""
    source, reference, made = by_reference(editor, generator, data)
    rows = [torch.cat(list(row[:12]), dim=2) for row in (source, reference, *made.values())]
    return png_bytes(torch.cat(rows, dim=1))


def card(name: str, inverter: Inverter, origin: Mapping[str, Any], size: int) -> str:
    """The model card."""
    template = Template((Path(__file__).parent / "encoder_card.md.j2").read_text(), keep_trailing_newline=True)
    about = " ".join((sys.modules[type(inverter).__module__].__doc__ or "").split("\n\n")[0].split())
    parameters = sum(p.numel() for p in inverter.parameters())
    return template.render(
        name=name, about=about, size=size, parameters=parameters, weights=SHIPPED[name].weights, **origin
    )


def _record(name: str) -> Mapping[str, Any]:
    path = ASSETS / name / "config.json"
    return json.loads(path.read_text()) if path.is_file() else {}  # type: ignore[no-any-return]


def _recipe_digest(name: str) -> str:
    """Of what the recipe says that shapes the weights: not of how often one looks at them, and not of defaults, to which more
    come with every new setting."""
    aside = {"validation", "checkpoint_every"}
    return digest(load_recipe(SHIPPED[name].recipe).model_dump(mode="json", exclude=aside, exclude_defaults=True))
