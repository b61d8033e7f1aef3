"""The curves of ``editability`` as a page in Markdown and SVG: a plot and a table for each edit."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence

from ganinv.report import plots
from ganinv.report.editability import RESAMPLES, EditCurve, common_range
from ganinv.report.figure import standalone
from ganinv.report.words import number, signed

AT = (-2.0, -1.0, 1.0, 2.0)
"""Changes at which methods are compared, in standard deviations."""

WORDS = {
    "embedded": "Similarity is the mean cosine of the embedded discriminator's features. **It is not an identity**: no face "
    "network is shipped, and lighting and background move it too. `--similarity model_ir_se50.pth` measures identity.",
    "arcface-ir-se50": "Similarity is the cosine of ArcFace IR-SE-50 embeddings of the aligned faces.",
}


def editability_page(curves: Sequence[EditCurve], similarity: str) -> dict[str, str]:
    """File name -> text: ``editability.md``, and ``editability-<edit>.svg`` for each edit.

    Args:
        similarity: name of the similarity that was measured.
    """
    edits = list(dict.fromkeys(curve.edit for curve in curves))
    methods = list(dict.fromkeys(curve.method for curve in curves))
    files, sections = {}, []
    for edit in edits:
        several = [curve for curve in curves if curve.edit == edit]
        file = f"editability-{re.sub(r'[^A-Za-z0-9._-]+', '-', edit)}.svg"
        tones = [methods.index(curve.method) for curve in several]
        files[file] = standalone(plots.editability(several, tones, f"{edit}: what is left along the edit", similarity))
        sections.append(_section(edit, several, file))
    images = sorted({len(curve.change) for curve in curves})
    counted = f"{images[0]}" if len(images) == 1 else f"{images[0]} to {images[-1]}"
    words = f"""How alike an edited photograph stays to the photograph, against how much the edit changed the attribute ({counted}
images per curve). The change is that of the labeller's score against the unedited inversion, in standard deviations over
{curves[0].scale}; a method is read off where its mean curve reaches a change, and has no number (–) where it does not. Mean
similarity is over the changes that all methods reach. Brackets: 95 % bootstrap interval over the images ({RESAMPLES:,}
resamples), where nearly all resamples reach the change. {WORDS.get(similarity, f"Similarity: {similarity}.")}"""
    head = "# Along an edit\n\n" + textwrap.fill(" ".join(words.split()), 120) + "\n"
    return files | {"editability.md": "\n".join([head, *sections])}


def _section(edit: str, curves: Sequence[EditCurve], file: str) -> str:
    low, high = common_range(curves)
    reached = f"{signed(low, 2)} to {signed(high, 2)}"
    titles = ["method", "unedited", *(f"at {signed(x, 1)} sd" for x in AT), f"mean, {reached} sd", "reaches"]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for curve in curves:
        cells = [curve.method, number(curve.at(0.0), 3)]
        cells += [_with_interval(curve, curve.at(x), x) for x in AT]
        cells.append(number(curve.area(low, high), 3))
        cells.append(" to ".join(signed(x, 2) for x in curve.reach()))
        lines.append(f"| {' | '.join(cells)} |")
    return f"## {edit} (score of {curves[0].attribute})\n\n![]({file})\n\n" + "\n".join(lines) + "\n"


def _with_interval(curve: EditCurve, value: float, change: float) -> str:
    if math.isnan(value):
        return number(value)
    low, high = curve.interval(lambda resampled: resampled.at(change))
    return number(value, 3) + ("" if math.isnan(low) else f" [{number(low, 3)}, {number(high, 3)}]")
