"""What every kind of data set promises, as functions of a writer alone.

A writer puts encoded images into a folder as its kind has them, and returns the URL to open. ``CHECKS`` are run for the kinds
that there are by ``test_datasets.py``; a new one runs them in its own test.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ganinv.data.dataset import Dataset, open_dataset
from ganinv.data.decode import decode
from ganinv.data.resize import to_resolution
from tests.data.pictures import encoded, noise

Writer = Callable[[Path, Mapping[str, bytes]], str]
"""(an empty folder, name -> encoded image) -> URL. Names end in .png and are in order."""

SIDE = 16


def images(count: int = 4) -> dict[str, bytes]:
    return {f"{number}.png": encoded(noise(SIDE, SIDE, seed=number)) for number in range(count)}


def opened(write: Writer, folder: Path, content: Mapping[str, bytes]) -> Dataset:
    folder.mkdir(parents=True)
    return open_dataset(write(folder, content))


def pixels(data: bytes) -> Tensor:
    return to_resolution(decode(data, max_bytes=2**20, suffix=".png").image, SIDE)


def finds_every_image(write: Writer, folder: Path) -> None:
    content = images()
    dataset = opened(write, folder / "a", content)
    assert len(dataset) == len(set(dataset.ids)) == len(content)
    batch = dataset.load(dataset.ids, SIDE)
    assert batch.ids == dataset.ids
    assert not batch.errors
    wanted = {tuple(pixels(data).flatten().tolist()) for data in content.values()}
    assert {tuple(image.flatten().tolist()) for image in batch.images} == wanted


def gives_the_same_ids_again(write: Writer, folder: Path) -> None:
    content = images(5)
    whole = opened(write, folder / "a", content)
    assert opened(write, folder / "b", content).ids == whole.ids
    fewer = opened(write, folder / "c", dict(list(content.items())[:4]))
    assert set(fewer.ids) < set(whole.ids), "an image's id is its own, whatever others there are"


def reads_images_alone_as_together(write: Writer, folder: Path) -> None:
    dataset = opened(write, folder / "a", images())
    together = dataset.load(dataset.ids, SIDE)
    for number, image_id in enumerate(dataset.ids):
        assert torch.equal(dataset.load([image_id], SIDE).images[0], together.images[number])


def goes_to_a_worker(write: Writer, folder: Path) -> None:
    dataset = opened(write, folder / "a", images())
    sent = pickle.loads(pickle.dumps(dataset))
    assert sent.ids == dataset.ids
    assert torch.equal(sent.load(sent.ids, SIDE).images, dataset.load(dataset.ids, SIDE).images)


def keeps_a_bad_image_apart(write: Writer, folder: Path) -> None:
    content = images()
    content["2.png"] = content["2.png"][:60]
    dataset = opened(write, folder / "a", content)
    batch = dataset.load(dataset.ids, SIDE)
    assert len(batch.ids) == 3
    (error,) = batch.errors
    assert error.code
    assert error.message


Check = Callable[[Writer, Path], None]

CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        finds_every_image,
        gives_the_same_ids_again,
        reads_images_alone_as_together,
        goes_to_a_worker,
        keeps_a_bad_image_apart,
    )
}
