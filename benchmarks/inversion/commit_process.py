"""The side of ``benchmarks.inversion.commits`` that runs in a process of its own, with the code of one commit.

It uses few names of the project, so that it runs with earlier commits as well. Its argument is the settings, as JSON. It does
what each line of its input says (``open``, ``run``, ``render``) and answers with one line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

import ganinv
from ganinv.generators.files import open_generator
from ganinv.stages.method import load_method
from ganinv.target import Target


def main() -> None:
    """Settings from the command line, requests from standard input."""
    settings = json.loads(sys.argv[1])
    if not Path(str(ganinv.__file__)).is_relative_to(settings["tree"]):
        sys.exit(f"ganinv was imported from {ganinv.__file__}, not from {settings['tree']}")
    g = open_generator(settings["generator"], settings["device"])
    images = torch.load(settings["images"], weights_only=True).to(settings["device"])
    target = Target(images, [f"{i:05d}" for i in range(len(images))])
    method = load_method(settings["method"], g, batch_size=settings["batch"])
    method.invert(target[:1])
    code = None
    for line in sys.stdin:
        answer: object = None
        if line.strip() == "open":
            answer = g.fingerprint
        elif line.strip() == "run":
            started = now(settings["device"])
            code = method.invert(target, measure=False).code
            answer = now(settings["device"]) - started
        elif code is not None:
            with torch.no_grad():
                torch.save(
                    torch.cat([g.synthesize(code[i : i + 1]) for i in range(len(code))]).cpu(), settings["found"]
                )
        print("FOUND", json.dumps(answer), flush=True)


def now(device: str) -> float:
    """Processor seconds of this process, or the wall's on a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


if __name__ == "__main__":
    main()
