"""The page docs/leaderboard/directions.md and its pictures, from the numbers that ``benchmarks/directions/run.py`` left in JSON
files."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.directions.pictures import draw_responses

Parts = dict[str, Any]
METHODS = {
    "published": "InterFaceGAN, W, SVC on 2 % tails",
    "ridge": "InterFaceGAN, W, ridge",
    "logistic": "InterFaceGAN, W, logistic on 10 % tails",
    "in-z": "InterFaceGAN, Z, ridge",
    "gradient": "classifier gradient, mean over 96, W+",
    "channels": "StyleSpace, one channel, found by gradient",
    "few-positives": "StyleSpace, one channel, found by ten positives",
}
INTRODUCTION = (
    "Made by `benchmarks/directions/run.py`; its head shows the commands. [Directions and labellers](../directions.md) says how "
    "to fit directions of your own. Everything is measured by rendering: samples are edited, and the labeller scores the images."
)


def write_pages(numbers: Path, docs: Path) -> None:
    """Write the page and its pictures.

    Args:
        numbers: where the JSON files are. Parts that were not measured are left out.
        docs: the folder of the page.
    """
    parts = {path.stem: json.loads(path.read_text()) for path in numbers.glob("*.json")}
    pictures = docs / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    if "effects" in parts:
        draw_responses(parts["effects"], pictures / "directions-responses.png")
    sections = [section(parts) for needs, section in SECTIONS if all(need in parts for need in needs)]
    if all(part in parts for part in ("samples", "fit-published", "effects", "conditions")):
        sections.insert(0, summary(parts))
    page = "\n\n".join(["# Directions, measured", INTRODUCTION, *sections])
    (docs / "directions.md").write_text(wrapped(page) + "\n")


def wrapped(text: str) -> str:
    """Prose in lines that an editor shows; tables and pictures as they are."""
    lines = text.splitlines()
    return "\n".join(line if line.startswith(("|", "!", "#")) else textwrap.fill(line, 120) for line in lines)


def summary(p: Parts) -> str:
    """What the bars ask, in one table and one plot."""
    s, e = p["samples"], p["effects"]
    lines = [
        "## In short",
        "",
        f"Generator {s['generator']}, {s['samples']:,} samples labelled by {s['labeller']}, InterFaceGAN's published recipe "
        "in W. Settings, the matrix of side effects, other estimators and methods are below.",
        "",
        f"| attribute | held-out accuracy | bootstrap cosine | monotone, of {e['fresh']} | largest side effect per sd | "
        "left: held by its boundary | left: held by its gradient |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in p["fit-published"].values():
        name = r["attribute"]
        c = p["conditions"]["published"][name]
        lines.append(
            f"| {name} | {number(r['validation_accuracy'])} | {number(r['stability'])} | "
            f"{100 * e['published'][name]['monotone']:.0f} % | {c['held']} {c['without'][c['held']]:+.2f} | "
            f"{left(c, 'boundary')} | {left(c, 'gradient')} |"
        )
    lines += [
        "",
        "Held-out: tail samples that the fit has not seen. Monotone: the score rises at each of five strengths. Left: of the "
        "largest side effect, when its attribute is projected out.",
    ]
    return "\n".join(lines)


def setting(p: Parts) -> str:
    s = p["samples"]
    lines = [
        "## What was measured",
        "",
        f"Generator {s['generator']}, {s['samples']:,} samples rendered with psi 0.8, labeller {s['labeller']}. Effects are on "
        "samples that nothing was fitted on, in standard deviations (sd) of each score over the samples. The directions of "
        "glasses move W+ rows 2-5, the others all rows.",
        "",
        "Correlations of the scores, which any direction fitted on them inherits:",
        "",
        matrix(s["attributes"], s["attributes"], s["correlation"], "{:+.2f}"),
    ]
    return "\n".join(lines)


def cost(p: Parts) -> str:
    return "## Time\n\n" + takes(p)


def takes(p: Parts) -> str:
    """One sentence on the time, one on what it would be without the other programs."""
    t = p["time"]
    whole = t["sampling_seconds"] + t["fitting_seconds"]
    quiet = (t["cpu_seconds_sampling"] + t["cpu_seconds_fitting"]) / 2
    return (
        f"{t['samples']:,} samples labelled and five directions fitted and calibrated, from an empty store, by {t['slots']} "
        f"worker processes on {t['cores']} cores: {t['sampling_seconds']:.0f} s + {t['fitting_seconds']:.0f} s = {whole:.0f} s, "
        f"at a load of {t['load_before'][0]:.1f} before and {t['load_after'][0]:.1f} after. In CPU seconds it costs "
        f"{t['cpu_seconds_sampling']:.0f} + {t['cpu_seconds_fitting']:.0f}, half of which is {quiet:.0f}."
    )


def memory(p: Parts) -> str:
    m = p["memory"]
    few, many, stream = m["20000"], m["200000"], m["stream"]
    lines = [
        "## Memory",
        "",
        "Peak of a process of its own, MiB. About 350 are Python, torch and the generator.",
        "",
        "| step | 20,000 samples | 200,000 | 1,000,000 |",
        "|---|---|---|---|",
        f"| sampling, nothing rendered | {few['sample']['peak_mib']:.0f} | {many['sample']['peak_mib']:.0f} | - |",
        f"| ten boundaries (SVC, ridge) | {few['fit']['peak_mib']:.0f} | {many['fit']['peak_mib']:.0f} | - |",
        f"| principal components of W, drawn as needed | {stream['20000']['peak_mib']:.0f} | - | "
        f"{stream['1000000']['peak_mib']:.0f} |",
    ]
    return "\n".join(lines)


def fits(p: Parts) -> str:
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


def side_effects(p: Parts) -> str:
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


def conditions(p: Parts) -> str:
    lines = [
        "## Conditional directions",
        "",
        "The largest side effect of each direction, per 1 sd of the target, and what is left of it when that attribute is held "
        "still: `boundary` projects out the normal of its own boundary, as published, `gradient` the mean gradient of its score "
        "(`conditions_by`). 128 fresh samples, strengths -1 and 1.",
        "",
        "| fitted by | direction | held still | without | boundary | left | gradient | left |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for fit, found in p["conditions"].items():
        for name, c in found.items():
            held = c["held"]
            lines.append(
                f"| {fit} | {name} | {held} | {c['without'][held]:+.2f} | {c['boundary'][held]:+.2f} | {left(c, 'boundary')} | "
                f"{c['gradient'][held]:+.2f} | {left(c, 'gradient')} |"
            )
    every = [(c, way) for found in p["conditions"].values() for c in found.values() for way in ("boundary", "gradient")]
    halved = {way: sum(share(c, way) <= 0.5 for c, w in every if w == way) for way in ("boundary", "gradient")}
    count = len(every) // 2
    lines += [
        "",
        f"Lowered by half or more: {halved['boundary']} of {count} by boundaries, {halved['gradient']} of {count} by gradients. "
        "Boundaries fitted on correlated scores contain each other, so projecting one out may overshoot; and where two "
        "boundaries are orthogonal already, projecting changes nothing, whatever the rendered images do.",
    ]
    return "\n".join(lines)


def share(condition: dict[str, Any], way: str) -> float:
    """What is left of the side effect, of either sign."""
    held = condition["held"]
    return abs(condition[way][held] / condition["without"][held])


def left(condition: dict[str, Any], way: str) -> str:
    return f"{100 * share(condition, way):.0f} %"


def dependency(p: Parts) -> str:
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


def channels(p: Parts) -> str:
    """Where a single channel is better than the W directions, and where none is."""
    c = p["channels"]
    found = c["attributes"]
    rivals = list(dict.fromkeys(name for of in found.values() for row in of["rows"] for name in row["w"]))
    lines = [
        "## Single channels against W",
        "",
        f"Mean-AD at equal response. All {c['screened']} convolution channels of S were screened by gradient; the "
        f"{c['candidates']} with the least side effects were edited, rendered and scored on {c['chosen_on']} fresh samples, the "
        f"best for each response was chosen there, and the numbers are of {c['judged_on']} other fresh samples. In brackets the "
        "middle 95 % of the difference, channel less W, over resampled images; - where an edit does not get so far.",
        "",
        "| attribute | way | response | best channel | its mean-AD | "
        + " | ".join(f"W, {name}" for name in rivals)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(rivals),
    ]
    for name, of in found.items():
        for row in of["rows"]:
            cells = [rival(row["w"].get(key)) for key in rivals]
            place = f"{row['layer']}, {row['channel']}" if "layer" in row else "none"
            lines.append(
                f"| {name} | {row['way']} | {row['response']:g} sd | {place} | {number(row.get('mean_ad'))} | "
                f"{' | '.join(cells)} |"
            )
    return "\n".join([*lines, "", *verdicts(p)])


def rival(of: dict[str, Any] | None) -> str:
    if of is None or of["mean_ad"] is None:
        return "-"
    span = of["difference"]
    return f"{of['mean_ad']:.3f}" + (f" ({span[0]:+.3f} .. {span[1]:+.3f})" if span else "")


def verdicts(p: Parts) -> list[str]:
    """Per attribute: which single channel beats the W direction of the published recipe, or that none does."""
    lines = []
    for name, of in p["channels"]["attributes"].items():
        better = [row for row in of["rows"] if row.get("mean_ad") is not None and beats(row, "published")]
        if any(surely(row, "published") for row in better):
            lines.append(f"**{name}**: a single channel has a lower mean-AD than the W direction: {cases(better)}.")
        elif better:
            lines.append(
                f"**{name}**: a single channel's mean-AD is lower than the W direction's only within chance: {cases(better)}."
            )
        else:
            lines.append(f"**{name}**: no single channel has a lower mean-AD than the W direction at any response.")
        ratios = ", ".join(f"{key} {value:.3f}" for key, value in of["w_ratio"].items())
        lines[-1] += (
            f" To first order the best of all channels changes the other scores by {of['best_ratio']:.3f} sd per sd of the "
            f"target, the W directions by: {ratios}. The attribute is spread over many channels: the strongest has "
            f"{100 * of['strongest']:.0f} % of the squared derivatives of its score, and it takes {of['half']} to have half."
        )
        lines.append("")
    return lines


def cases(rows: list[dict[str, Any]]) -> str:
    """Where a channel is better, each with both numbers."""
    return "; ".join(
        f"{row['layer']}, {row['channel']} ({row['way']}, {row['response']:g} sd: {row['mean_ad']:.3f} against "
        f"{number(row['w']['published']['mean_ad'])}{', beyond chance' if surely(row, 'published') else ''})"
        for row in rows
    )


def beats(row: dict[str, Any], key: str) -> bool:
    """A lower mean-AD than a W direction's, or a response that the W direction does not reach."""
    other = row["w"][key]["mean_ad"]
    return other is None or row["mean_ad"] < other


def surely(row: dict[str, Any], key: str) -> bool:
    span = row["w"][key]["difference"]
    return span is not None and span[1] < 0


def dci(p: Parts) -> str:
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
            "have thirty. A classifier needs few of the dimensions of S, and hardly ever those of another: hence its 1.",
        ]
    )


def components(p: Parts) -> str:
    lines = ["## Components and factors", "", "| direction | what it moves, in sd per step |", "|---|---|"]
    for part in ("fit-components", "fit-factors"):
        lines += [f"| {name} | {r['meaning']} |" for name, r in p[part].items()]
    note = "GANSpace's steps are standard deviations of W along the component, SeFa's are 1 in W on all rows."
    return "\n".join([*lines, "", note])


def regions(p: Parts) -> str:
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


def pictures(p: Parts) -> str:
    names = ", ".join(p["strip"]["rows"])
    return "\n".join(
        [
            "## What they look like",
            "",
            "![Edits](pictures/directions-strip.jpg)",
            "",
            f"From top to bottom: {names}. Two fresh samples, strengths -2, -1, 0, 1, 2 units; single channels -20, -10, 0, 10, "
            "20 of their standard deviations.",
        ]
    )


SECTIONS: tuple[tuple[tuple[str, ...], Callable[[Parts], str]], ...] = (
    (("samples",), setting),
    (("time",), cost),
    (("memory",), memory),
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


def pair(value: list[float | None]) -> str:
    return "-" if None in value else f"{value[0]:.3f} ({value[1]:.3f})"
