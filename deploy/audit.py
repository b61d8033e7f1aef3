"""``make audit``: known vulnerabilities in ``requirements.lock``, by pip-audit in an environment of its own.

Ends with 0 when none is known, 1 when there are some, 2 when the package index does not answer such questions: pip-audit
itself then says "none known" of packages that it could not ask about.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENVIRONMENT = ROOT / "build/audit"


def main() -> int:
    python = ENVIRONMENT / "bin/python"
    if not (ENVIRONMENT / "bin/pip-audit").exists():
        venv.create(ENVIRONMENT, with_pip=True)
        if subprocess.run([python, "-m", "pip", "install", "--quiet", "pip-audit"]).returncode:
            print("not audited: pip-audit cannot be installed from this package index")
            return 2
    command = [ENVIRONMENT / "bin/pip-audit", "--requirement", ROOT / "requirements.lock", "--no-deps", "--disable-pip"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        print(f"not audited: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
        return 2
    return tell(report)


def tell(report: dict[str, Any]) -> int:
    """Print what pip-audit found, and what it could not ask about. Returns the exit code."""
    asked = [each for each in report["dependencies"] if "skip_reason" not in each]
    skipped = [each["name"] for each in report["dependencies"] if "skip_reason" in each]
    found = [(each, flaw) for each in asked for flaw in each["vulns"]]
    for each, flaw in found:
        print(
            f"{each['name']} {each['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        )
    print(f"{len(found)} known vulnerabilities in {len(asked)} packages")
    if skipped:
        print(f"not audited: the index knows nothing of {len(skipped)} packages, such as {', '.join(skipped[:3])}")
    return 1 if found else 2 if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
