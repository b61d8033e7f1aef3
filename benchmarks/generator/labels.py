"""Labellers against judges: do scores mean what their names say, on photographs and on what generators make?

    python -m benchmarks.generator.labels --data portraits.parquet --labeller portraits-64 --labeller runs/labeller \\
        --generator portraits-64

For the test split and for samples of each generator, a row for each labeller. Glasses: share of images on which the score's sign
is what the glasses probe says, Cohen's kappa, and the area under the ROC curve against it. Yaw and smile: correlations with what
landmarks say; ``age and veil`` is the change of the age score, in standard deviations, when a white veil of a fifth is
laid over the image: a labeller of age should not see it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from torch import Tensor

from benchmarks.pages import write_part
from ganinv.codes.code import Code
from ganinv.data import open_dataset
from ganinv.generators.files import open_generator
from ganinv.generators.sampling import sample_z
from ganinv.judges import Panel
from ganinv.labels import Labeller, open_labeller

SEED, VEIL = 50_000, 0.2
HEAD = (
    "images", "labeller", "glasses agree", "kappa", "AUC", "yaw", "smile: corners", "smile: mouth width", "age and veil",
)  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the official-portraits table (Parquet)")
    parser.add_argument("--labeller", action="append", required=True, help="name or folder; may be repeated")
    parser.add_argument("--generator", action="append", default=[])
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--to", type=Path, help="page of Markdown: its part on labels is replaced")
    args = parser.parse_args()
    panel = Panel()
    labellers = [open_labeller(name) for name in args.labeller]
    dataset = open_dataset(args.data, where={"split": "test"})
    sets = {"test split": dataset.load(dataset.ids, 64).images}
    for g in map(open_generator, args.generator):
        w = g.map(sample_z(SEED, range(args.samples), g.z_dim))
        sets[f"samples of {g.name}"] = g.render(Code(w=w)).clamp(-1, 1)
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for name, images in sets.items():
        said = panel.judge(images, describe=False).measures
        lines += [row(f"{name} ({len(images)})", each, agreement(each, images, said)) for each in labellers]
    text = "\n".join([*lines, "", f"Judges: {'; '.join(map(str, panel.judges))}."])
    print(text)
    if args.to:
        write_part(args.to, "labels", text)


def agreement(labeller: Labeller, images: Tensor, said: dict[str, np.ndarray]) -> dict[str, float]:
    """A labeller's scores beside the judges' measures of the same images, those with a face."""
    seen = said["face"] > 0
    scores = {name: score.double().numpy()[seen] for name, score in labeller(images).items()}
    veiled = labeller(torch.lerp(images, torch.ones(()), VEIL))["age"].double().numpy()[seen]
    wears = said["glasses"][seen] > 0.5
    return {
        "agree": float(((scores["glasses"] > 0) == wears).mean()),
        "kappa": float(cohen_kappa_score(scores["glasses"] > 0, wears)),
        "auc": float(roc_auc_score(wears, scores["glasses"])),
        "yaw": correlation(scores["yaw"], said["yaw"][seen]),
        "corners": correlation(scores["smile"], said["smile"][seen]),
        "width": correlation(scores["smile"], said["mouth_width"][seen]),
        "veil": float((veiled - scores["age"]).mean() / scores["age"].std()),
    }


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: a score need not be linear in what it measures."""
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def row(what: str, labeller: Labeller, found: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [f"{found['agree']:.1%}", *(f"{found[key]:.3f}" for key in ("kappa", "auc", "yaw", "corners", "width"))]
    return (
        f"| {what} | {labeller.identity} ({labeller.weights_sha256[:8]}) | {' | '.join(cells)} | {found['veil']:+.2f} |"
    )


if __name__ == "__main__":
    main()
