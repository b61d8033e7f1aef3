"""The page docs/directions.md and its pictures, from the numbers that ``benchmarks/directions.py`` left in JSON files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

METHODS = {
    "published": "InterFaceGAN, W, SVC on 2 % tails",
    "ridge": "InterFaceGAN, W, ridge",
    "logistic": "InterFaceGAN, W, logistic on 10 % tails",
    "in-z": "InterFaceGAN, Z, ridge",
    "gradient": "classifier gradient, mean over 96, W+",
    "channels": "StyleSpace, one channel, found by gradient",
    "few-positives": "StyleSpace, one channel, found by ten positives",
}
BEGIN, END = (
    "<!-- benchmarks/directions.py: below this line the page is generated -->",
    "<!-- end of the generated part -->",
)


def write_page(folder: Path, to: Path) -> None:
    """Replace the generated part of a page (or append it), and write its pictures beside it.

    Args:
        folder: where the JSON files are. Parts that were not measured are left out.
    """
    parts = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    pictures = to.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    sections = [section(parts) for needs, section in SECTIONS if all(need in parts for need in needs)]
    if "effects" in parts:
        draw_responses(parts["effects"], pictures / "directions-responses.png")
    if (folder / "strip.png").is_file():
        (pictures / "directions-strip.png").write_bytes((folder / "strip.png").read_bytes())
    text = to.read_text() if to.is_file() else f"# Directions\n\n{BEGIN}\n{END}\n"
    head, rest = text.split(BEGIN, 1) if BEGIN in text else (text + "\n", END + "\n")
    tail = rest.split(END, 1)[1]
    to.write_text(head + BEGIN + "\n\n" + "\n\n".join(sections) + "\n\n" + END + tail)


def setting(p: dict[str, Any]) -> str:
    s = p["samples"]
    lines = [
        "## What was measured",
        "",
        f"Generator {s['generator']}, {s['samples']:,} samples rendered with psi 0.8, labeller {s['labeller']}. Effects are on "
        "samples that nothing was fitted on, in standard deviations (sd) of each score over the samples. The directions of "
        "glasses move W+ rows 0-3, the others all rows.",
        "",
        "Correlations of the scores, which any direction fitted on them inherits:",
        "",
        matrix(s["attributes"], s["attributes"], s["correlation"], "{:+.2f}"),
    ]
    return "\n".join(lines)


def cost(p: dict[str, Any]) -> str:
    t = p["time"]
    whole = t["sampling_seconds"] + t["fitting_seconds"]
    quiet = (t["cpu_seconds_sampling"] + t["cpu_seconds_fitting"]) / 2
    return "\n".join(
        [
            "## Time",
            "",
            f"{t['samples']:,} samples labelled and five directions fitted and calibrated, from an empty store, by "
            f"{t['slots']} worker processes on {t['cores']} cores: {t['sampling_seconds']:.0f} s + "
            f"{t['fitting_seconds']:.0f} s = {whole:.0f} s, at a load of {t['load_before'][0]:.1f} before and "
            f"{t['load_after'][0]:.1f} after (2 is both cores busy; other programs ran beside it). In CPU seconds it costs "
            f"{t['cpu_seconds_sampling']:.0f} + {t['cpu_seconds_fitting']:.0f}, which is {quiet:.0f} s on two quiet cores.",
        ]
    )


def memory(p: dict[str, Any]) -> str:
    m, s = p["memory"], p["stream"]
    few, many, million = m["20000"], m["200000"], s["1000000"]
    shares = ", ".join(f"{100 * million['variance'][i - 1]:.0f} %" for i in (10, 20, 80))
    return "\n".join(
        [
            "## Memory",
            "",
            f"Peak of a process that fits ten boundaries (SVC and ridge): {few['fitted_mib']:.0f} MiB on 20,000 samples, "
            f"{many['fitted_mib']:.0f} MiB on 200,000. Principal components of samples of W that are drawn as they are needed: "
            f"{s['20000']['peak_mib']:.0f} MiB for 20,000, {million['peak_mib']:.0f} MiB for 1,000,000, which take "
            f"{million['cpu_seconds']:.0f} CPU seconds. The first 10, 20 and 80 of 128 components have {shares} of the variance.",
        ]
    )


def fits(p: dict[str, Any]) -> str:
    """One row per attribute and estimator."""
    lines = [
        "## Boundaries",
        "",
        "| attribute | estimator | held-out accuracy | remaining accuracy | bootstrap cosine | unit: distance in W | "
        "calibrated: distance for 1 sd | monotone |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for fit in ("published", "ridge"):
        for r in p[f"fit-{fit}"].values():
            name, c = r["attribute"], r["calibration"]
            monotone = p["effects"][fit][name]["monotone"]
            calibrated = "-" if c["unit"] is None else f"{c['unit']:.2f}"
            lines.append(
                f"| {name} | {r['estimator']} | {number(r['validation_accuracy'])} | {number(r['remaining_accuracy'])} | "
                f"{number(r['stability'])} | {r['unit']:.2f} | {calibrated} | {100 * monotone:.0f} % |"
            )
    e = p["effects"]
    lines += [
        "",
        "Held-out: samples of both tails that the fit has not seen. Remaining: all samples outside the tails, labelled by the "
        "middle of the range of scores, as published. Bootstrap cosine: mean over five refits on resampled data. Monotone: "
        f"share of {e['fresh']} fresh samples (ridge: 200) whose score rises at each of the strengths "
        f"{', '.join(f'{s:g}' for s in e['strengths'])}.",
        "",
        "![Responses](pictures/directions-responses.png)",
        "",
        "Mean response in sd, with the middle 80 % of the samples, of the published recipe (line) and of ridge (dashed).",
    ]
    return "\n".join(lines)


def side_effects(p: dict[str, Any]) -> str:
    names = p["samples"]["attributes"]
    lines = ["## Side effects", ""]
    for fit, what in (("published", "published recipe"), ("ridge", "ridge")):
        rows = []
        for name in names:
            slope = p["effects"][fit][name]["slope"]
            rows.append([slope[other] / slope[name] for other in names])
        lines += [f"Change of each score (columns) per 1 sd of the target (rows), {what}:", ""]
        lines += [matrix(names, names, rows, "{:+.2f}"), ""]
    return "\n".join(lines).rstrip()


def conditions(p: dict[str, Any]) -> str:
    lines = [
        "## Conditional directions",
        "",
        "The named attribute projected out of the boundary; its change per 1 sd of the target, on 128 fresh samples:",
        "",
        "| direction | fitted by | held still | without | with | what is left | cosine |",
        "|---|---|---|---|---|---|---|",
    ]
    for fit, found in p["conditions"].items():
        for name, c in found.items():
            for held in c["conditions"]:
                a, b = c["without"][held], c["with"][held]
                left = f"{100 * abs(b / a):.0f} %"
                lines.append(f"| {name} | {fit} | {held} | {a:+.2f} | {b:+.2f} | {left} | {c['cosine']:.2f} |")
    return "\n".join(lines)


def dependency(p: dict[str, Any]) -> str:
    lines = [
        "## Attribute Dependency",
        "",
        "Mean-AD (max-AD) of the other attributes where the target's score has changed by 0.25, 0.5 and 1 sd, on 64 fresh "
        "samples; lower is better, - where the edit does not get so far within 3 units (20 of a channel).",
        "",
        "| attribute | way | method | at 0.25 sd | at 0.5 sd | at 1 sd |",
        "|---|---|---|---|---|---|",
    ]
    for name, ways in p["dependency"].items():
        for way, methods in ways.items():
            for key, found in methods.items():
                what = METHODS[key]
                if "channel" in found:
                    what += f" ({found['layer']}, {found['channel']})"
                cells = " | ".join(pair(found["at"][x]) for x in ("0.25", "0.5", "1.0"))
                lines.append(f"| {name} | {way} | {what} | {cells} |")
    return "\n".join(lines)


def channels(p: dict[str, Any]) -> str:
    """Where a single channel is better than the W directions, and where none is."""
    lines = [
        "## Single channels against W",
        "",
        "Mean-AD at equal response. All convolution channels of S were screened by gradient; twelve with the least side effects "
        "were edited, rendered and scored on 64 fresh samples, the best for each response was chosen there, and the numbers are "
        "of 128 other fresh samples. In brackets the middle 95 % of the difference to it (channel less W) over resampled images.",
        "",
        "| attribute | way | response | best channel | its mean-AD | W, published | W, ridge |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = []
    for name, found in p["channels"].items():
        better, surely = [], []
        for row in found["rows"]:
            own = row["mean_ad"]
            cells = []
            for fit in ("published", "ridge"):
                between = row[f"{fit}_interval"]
                span = f" ({between[0]:+.3f} .. {between[1]:+.3f})" if between else ""
                cells.append("-" if math.isnan(row[fit]) else f"{row[fit]:.3f}{span}")
            place = f"{row['layer']}, {row['channel']}"
            shown = "-" if math.isnan(own) else f"{own:.3f}"
            lines.append(
                f"| {name} | {row['way']} | {row['response']:g} sd | {place} | {shown} | {' | '.join(cells)} |"
            )
            if not math.isnan(own) and all(math.isnan(row[fit]) or own < row[fit] for fit in ("published", "ridge")):
                better.append(f"{row['way']} {row['response']:g} sd by ({place})")
                known = [row[f"{fit}_interval"] for fit in ("published", "ridge") if row[f"{fit}_interval"]]
                if known and all(high < 0 for _, high in known):
                    surely.append(better[-1])
        ratios = ", ".join(f"{fit} {value:.3f}" for fit, value in found["w_ratio"].items())
        first = f"to first order the best of {found['screened']} channels changes the other scores by {found['best_ratio']:.3f} sd per sd of the target, the W directions by {ratios}"
        if better:
            sure = f"; by more than chance: {'; '.join(surely)}" if surely else ", though within what chance explains"
            notes.append(
                f"**{name}**: single channels have a lower mean-AD than both W directions for {'; '.join(better)}{sure}. In numbers, {first}."
            )
        else:
            notes.append(
                f"**{name}**: no single channel has a lower mean-AD than both W directions, and {first}. W of this generator "
                "has 128 dimensions that were trained to decode principal components of faces; DCI finds it about as "
                "disentangled as its styles."
            )
    return "\n".join([*lines, "", *("\n\n".join(notes)).split("\n")])


def dci(p: dict[str, Any]) -> str:
    lines = [
        "## DCI",
        "",
        "| space | dimensions | disentanglement | completeness | informativeness |",
        "|---|---|---|---|---|",
    ]
    for space, d in p["dci"].items():
        lines.append(
            f"| {space} | {d['dimensions']} | {d['disentanglement']:.2f} | {d['completeness']:.2f} | "
            f"{d['informativeness']:.2f} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "2 % tails of each score, cut at its median (glasses are rare); five attributes, so not comparable with papers that "
            "have thirty.",
        ]
    )


def components(p: dict[str, Any]) -> str:
    lines = ["## Components and factors", "", "| direction | what it moves, in sd per step |", "|---|---|"]
    for part in ("fit-components", "fit-factors"):
        lines += [f"| {name} | {r['meaning']} |" for name, r in p[part].items()]
    note = "GANSpace's steps are standard deviations of W along the component, SeFa's are 1 in W on all rows."
    return "\n".join([*lines, "", note])


def regions(p: dict[str, Any]) -> str:
    r = p["regions"]
    lines = [
        "## Locally active channels",
        "",
        f"Gradient maps of {r['channels']} channels on {r['images']} images against the template of the aligned face "
        f"({r['cpu_seconds']:.0f} CPU seconds): {sum(r['local'].values())} act in one region.",
        "",
        "| region | channels | such as (layer, channel, rate) |",
        "|---|---|---|",
    ]
    for region, count in r["local"].items():
        if region != "others":
            some = "; ".join(f"{layer}, {channel}, {rate:g}" for layer, channel, rate in r["examples"][region])
            lines.append(f"| {region} | {count} | {some} |")
    return "\n".join(lines)


def pictures(p: dict[str, Any]) -> str:
    names = ", ".join(p["strip"]["rows"])
    return "\n".join(
        [
            "## What they look like",
            "",
            "![Edits](pictures/directions-strip.png)",
            "",
            f"From top to bottom: {names}. Two fresh samples, strengths -2, -1, 0, 1, 2 units; single channels -20, -10, 0, 10, "
            "20 of their standard deviations.",
        ]
    )


SECTIONS = (
    (("samples",), setting),
    (("time",), cost),
    (("memory", "stream"), memory),
    (("fit-published", "fit-ridge", "effects"), fits),
    (("samples", "effects"), side_effects),
    (("conditions",), conditions),
    (("dependency",), dependency),
    (("channels",), channels),
    (("dci",), dci),
    (("fit-components", "fit-factors"), components),
    (("regions",), regions),
    (("strip",), pictures),
)


def matrix(rows: list[str], columns: list[str], values: list[list[float]], form: str) -> str:
    """A table of numbers."""
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines += [
        f"| {name} | " + " | ".join(form.format(v) for v in row) + " |" for name, row in zip(rows, values, strict=True)
    ]
    return "\n".join(lines)


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def pair(value: list[float]) -> str:
    return "-" if math.isnan(value[0]) else f"{value[0]:.3f} ({value[1]:.3f})"


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
    sheet.save(path)
