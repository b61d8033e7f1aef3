"""Directions fitted again on a schedule: new versions, and what they changed as an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.runtime import as_flow, markdown, table
from flows.steps import run_step
from tasks.engine import Engine
from tasks.steps.refit import RefitJob, run_refit


def _refit(job: RefitJob, engine: Engine = Engine()) -> dict[str, Any]:  # noqa: B008  # frozen
    """Sample and fit again; every new version has what it changed in its report, and so does the artifact."""
    result = run_step(run_refit, job, engine, "refit")
    rows = result["directions"]
    table(f"refit-{job.fit.name}", [{key: str(value) for key, value in row.items()} for row in rows], _title(result))
    markdown(f"refit-{job.fit.name}-changes", changes_text(rows, _title(result)), "What the refit changed")
    return result


def changes_text(rows: Sequence[Mapping[str, Any]], title: str) -> str:
    """What changed, as Markdown: one line per direction."""
    lines = [f"# {title}", ""]
    for row in rows:
        what = f"**{row['direction']}** version {row['version']}"
        if not row["new"]:
            lines.append(f"- {what}: unchanged, samples and configuration are the same")
        elif "previous" not in row:
            lines.append(f"- {what}: the first one")
        else:
            told = [f"cosine {row['cosine']}"] if "cosine" in row else []
            told += [f"{key.replace('_', ' ')} {row[key]}" for key in _TOLD if key in row]
            lines.append(f"- {what}, after {row['previous']}: {'; '.join(told) or 'nothing to compare'}")
    return "\n".join(lines)


_TOLD = ("validation_accuracy", "stability", "effects", "not_compared")


def _title(result: Mapping[str, Any]) -> str:
    failed = f", {result['failed']} could not be fitted" if result["failed"] else ""
    return f"Refit {result['refit']} on samples {result['samples']}: {len(result['directions'])} directions{failed}"


refit_directions = as_flow(_refit, "refit-directions")
