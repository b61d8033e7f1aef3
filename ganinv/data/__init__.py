"""Data sets of images from anywhere, decoded safely. Start at :func:`open_dataset`."""

from ganinv.data.align import align_face, cut_quad, face_quad, landmarks68_to_points, quad_side
from ganinv.data.dataset import Dataset, LoadedBatch, open_dataset
from ganinv.data.decode import ImageRefused, decode_image
from ganinv.data.demo import demo_dataset
from ganinv.data.resize import to_resolution
from ganinv.data.source import SourceRef

__all__ = [
    "Dataset",
    "ImageRefused",
    "LoadedBatch",
    "SourceRef",
    "align_face",
    "cut_quad",
    "decode_image",
    "demo_dataset",
    "face_quad",
    "landmarks68_to_points",
    "open_dataset",
    "quad_side",
    "to_resolution",
]
