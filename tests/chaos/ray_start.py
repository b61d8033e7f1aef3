"""``ray start`` for another node of a cluster that lives on loopback alone: ``python -m tests.chaos.ray_start start ...``.

With its loopback switch on, Ray's command starts a head and refuses every further node, although they work.
"""

from __future__ import annotations

from types import SimpleNamespace

from ray._private import ray_constants
from ray.scripts import scripts

if __name__ == "__main__":
    # The command's own view of the constants; the rest of Ray goes on seeing that it is to stay on loopback.
    vars(scripts)["ray_constants"] = SimpleNamespace(**{**vars(ray_constants), "ENABLE_RAY_CLUSTER": True})
    scripts.main()
