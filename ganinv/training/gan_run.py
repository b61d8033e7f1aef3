"""The recipe of the embedded generator: train, watch, measure, export.

    python -m ganinv.training.gan_run train  --data portraits.parquet --where split=train --out FOLDER
    python -m ganinv.training.gan_run export --data portraits.parquet --where split=train --out FOLDER --to ASSETS

``train`` goes on from FOLDER's checkpoint; every snapshot adds a line to ``log.jsonl`` and a sample grid. ``export`` writes
``G_ema`` and ``D`` in half precision with measurements: KID against the training images in the feature space of the shipped
attribute net, and the nearest training neighbour of generated samples in the same space.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Template
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from ganinv.codes.code import Code
from ganinv.config import config_path, load_yaml, validate
from ganinv.data import open_dataset
from ganinv.generators.files import open_generator, save_generator
from ganinv.generators.grid import sample_grid
from ganinv.generators.stylegan2 import Generator
from ganinv.labels import NetworkLabeller, open_trained
from ganinv.metrics import kid
from ganinv.training.gan import GanTrainer, GanTrainingConfig, train


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["train", "export"])
    parser.add_argument("--data", required=True, help="data set URL")
    parser.add_argument("--where", action="append", default=[], help="rows of a Parquet data set: split=train")
    parser.add_argument("--recipe", default="portraits-64-gan")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--start", help="train: go on from this generator instead of a warm start")
    parser.add_argument("--to", type=Path, help="export: folder of the generator's assets")
    parser.add_argument("--history", default="", help="export: a sentence for the model card on how this run went")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    cfg = validate(GanTrainingConfig, load_yaml(config_path("training", args.recipe)), args.recipe)
    where = dict(pair.split("=", 1) for pair in args.where)
    dataset = open_dataset(args.data, where=where or None)
    loaded = dataset.load(dataset.ids, cfg.stages[-1][0])
    images = ((loaded.images + 1) * 127.5).round().to(torch.uint8)
    if args.start:
        cfg = cfg.model_copy(update={"warm_start": None})
    trainer = GanTrainer(cfg, images, args.device)
    if args.action == "train":
        if args.start:
            trainer.start_from(open_generator(args.start))
        _train(trainer, args.out)
    else:
        trainer.load(torch.load(args.out / "checkpoint.pt", weights_only=True, map_location=args.device))
        export(trainer, args.to, args.history)


def _train(trainer: GanTrainer, out: Path) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("train", total=trainer.total_img, note="")

        def on_step(losses: dict[str, float]) -> None:
            if "kimg" not in losses:
                progress.update(
                    task, note=f"warm start {losses['step']:.0f} of {losses['steps']:.0f}: {losses['loss']:.3f}"
                )
                return
            names = {"projected_d_loss": "D", "anchor": "anchor", "ada_p": "p"}
            said = "  ".join(f"{said} {losses[key]:.2f}" for key, said in names.items() if key in losses)
            note = f"{losses['kimg']:.1f} kimg  {said}"
            progress.update(task, completed=trainer.nimg, note=note)

        train(trainer, out, on_step, lambda t: sample_grid(t.g_ema).save(out / f"grid-{t.nimg // 1000:06d}.png"))


def export(trainer: GanTrainer, folder: Path, history: str = "") -> None:
    """Write the generator's assets and its measurements."""
    generator = trainer.g_ema.cpu()
    generator.name = folder.name
    generator.discriminator = trainer.d.cpu()
    generator.measure_w()
    save_generator(generator, str(folder), half=True)
    shipped = open_generator(str(folder))
    measured = measure(shipped, trainer.images, open_trained("portraits-64"))
    card = {"kimg": trainer.nimg / 1000, "training_images": len(trainer.images), "measured": measured}
    save_generator(shipped, str(folder), half=True, extra=card)
    sample_grid(shipped, psi=0.8).save(folder / "samples.png")
    (folder / "MODEL_CARD.md").write_text(_model_card(shipped, trainer, card, folder, history))
    Console().print(json.dumps(card, indent=1))


def _model_card(generator: Generator, trainer: GanTrainer, card: dict[str, Any], folder: Path, history: str) -> str:
    template = Template((Path(__file__).parent / "generator_card.md.j2").read_text(), keep_trailing_newline=True)
    warm = trainer.cfg.warm_start
    return template.render(
        **card,
        history=history,
        **generator.cfg.model_dump(),
        name=generator.name,
        parameters=sum(p.numel() for p in generator.mapping.parameters())
        + sum(p.numel() for p in generator.synthesis.parameters()),
        size=(folder / "generator.safetensors").stat().st_size,
        warm_kimg=f"{warm.kimg:.0f}" if warm else "0",
    )


def measure(generator: Generator, images: Tensor, labeller: NetworkLabeller, count: int = 2000) -> dict[str, float]:
    """KID and nearest neighbours in the labeller's feature space.

    ``nearest_cosine_*``: cosine of each generated image's centred features to its nearest training image (mirrored ones
    included); ``real_nearest_cosine_mean``: the same between training images, for scale.
    """
    real = features(labeller, images.float() / 127.5 - 1)
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(0))
    generated = generator.render(Code(w=generator.map(z)))
    fake = features(labeller, generated.clamp(-1, 1))
    mirrored = features(labeller, images.flip(3).float() / 127.5 - 1)
    mean = real.mean(0)
    known = _unit(np.concatenate([real, mirrored]) - mean)
    nearest = (_unit(fake - mean) @ known.T).max(1)
    among = _unit(real - mean) @ _unit(real - mean).T
    np.fill_diagonal(among, -1)
    distance = kid(fake, real)
    halves = np.random.default_rng(0).permutation(len(real))
    within = kid(real[halves[::2]], real[halves[1::2]])
    return {
        "samples": count,
        "real_kid": round(float(within.mean), 5),
        "kid": round(float(distance.mean), 5),
        "kid_std": round(float(distance.std), 5),
        "nearest_cosine_mean": round(float(nearest.mean()), 4),
        "nearest_cosine_max": round(float(nearest.max()), 4),
        "real_nearest_cosine_mean": round(float(among.max(1).mean()), 4),
    }


@torch.inference_mode()
def features(labeller: NetworkLabeller, images: Tensor, batch_size: int = 128) -> np.ndarray:
    """Pooled trunk features [N, C] of images [N, 3, R, R] in [-1, 1]."""
    parts: list[Tensor] = []
    hook = labeller.net.head.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0]))  # type: ignore[union-attr]
    try:
        for start in range(0, len(images), batch_size):
            labeller(images[start : start + batch_size])
    finally:
        hook.remove()
    return torch.cat(parts).cpu().numpy()


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
