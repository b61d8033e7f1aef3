"""Is a table that was made under blows the same as one that was not?"""

from __future__ import annotations

from dataclasses import dataclass

from ganinv.store import open_store
from ganinv.store.plan import Plan
from tests.chaos.storage import BUCKET, S3Server


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str = ""


def compare(server: S3Server, whole: str, cut: str, images: int, bad: int) -> list[Check]:
    """Two collections of the same data set: everything but times and attempts must be equal, to the byte."""
    options = {"endpoint_url": server.url, "key": "test", "secret": "test"}
    made = []
    for path in (whole, cut):
        root, kind, name = f"s3://{BUCKET}/{path}".rsplit("/", 2)
        made.append(open_store(root, **options).collection(kind, name))
    undisturbed, other = made
    ids = other.read(["image_id"])["image_id"].to_pylist()
    failed = other.errors()["image_id"].to_pylist()
    every = [image_id for unit in other.plan().units for image_id in unit.ids]
    names = [each.objects.names(each.path) for each in made]
    parts = [name for name in names[0] if name.startswith("part-")]
    differing = [
        n for n in parts if n not in names[1] or len({each.objects.read(f"{each.path}/{n}") for each in made}) > 1
    ]
    errors = [each.errors().drop_columns(["attempts"]) for each in made]
    timed = [sorted(each.timings()["image_id"].to_pylist()) for each in made]
    manifests = [each.manifest() for each in made]
    return [
        Check(
            "rows in = ok + failed",
            len(ids) + len(failed) == images and sorted(ids + failed) == sorted(every),
            f"{images} in, {len(ids)} ok, {len(failed)} failed",
        ),
        Check("only bad images failed", len(failed) == bad, f"{bad} are bad"),
        Check("nothing twice", len(set(ids)) == len(ids) and len(set(failed)) == len(failed)),
        Check("the same objects", names[0] == names[1], f"{sorted(set(names[0]) ^ set(names[1]))[:5]}"),
        Check("parts equal to the byte", not differing, f"{len(parts)} parts, differing: {differing[:5]}"),
        Check("errors equal", errors[0].equals(errors[1])),
        Check("timings of the same images", timed[0] == timed[1]),
        Check("manifests equal", manifests[0] is not None and manifests[0] == manifests[1]),
        Check("plans equal", _content(undisturbed.plan()) == _content(other.plan())),
    ]


def _content(plan: Plan) -> Plan:
    """A plan without what its run began on: one of the two runs is inline, the other on a cluster."""
    return plan.model_copy(update={"begun_on": {}})
