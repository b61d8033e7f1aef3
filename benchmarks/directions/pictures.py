"""The pictures of the page on directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw


def draw_responses(effects: dict[str, Any], path: Path) -> None:
    """One panel per attribute."""
    names = list(effects["published"])
    figure = Figure(figsize=(2.5 * len(names), 2.7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(names), sharey=True)
    for axes, name in zip(np.atleast_1d(panels), names, strict=True):
        for fit, style, color in (("published", "-", "#2a6f97"), ("ridge", "--", "#c1666b")):
            found = effects[fit][name]
            low, _, high = found["quantiles"]
            axes.plot(effects["strengths"], found["mean"], style, color=color, label=fit)
            axes.fill_between(effects["strengths"], low, high, color=color, alpha=0.15, linewidth=0)
        axes.set_title(name, fontsize=11)
        axes.axhline(0, color="#999999", linewidth=0.6)
        axes.set_xlabel("strength, units")
        axes.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(panels)[0].set_ylabel("change of score, sd")
    np.atleast_1d(panels)[-1].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def draw_strip(rows: list[tuple[str, torch.Tensor]], path: Path) -> None:
    """Rows of pictures with their names.

    Args:
        rows: (name, images [samples, strengths, 3, R, R] in [-1, 1]).
    """
    margin, size = 110, rows[0][1].shape[-1]
    samples, strengths = rows[0][1].shape[:2]
    sheet = Image.new("RGB", (margin + samples * strengths * size + (samples - 1) * 8, len(rows) * size), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (name, images) in enumerate(rows):
        draw.text((4, place * size + size // 2 - 6), name, fill="black")
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
        for sample in range(samples):
            for column in range(strengths):
                x = margin + (sample * strengths + column) * size + sample * 8
                sheet.paste(Image.fromarray(pixels[sample, column]), (x, place * size))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=90)
