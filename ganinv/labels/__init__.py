"""Labellers: images in, named scores out."""

from ganinv.labels.attributes import AttributeNet
from ganinv.labels.base import Attribute, Labeller
from ganinv.labels.network import NetworkLabeller
from ganinv.labels.opening import LabellerCard, labeller_names, open_labeller, open_trained, read_card
from ganinv.labels.table import TableLabeller

__all__ = [
    "Attribute",
    "AttributeNet",
    "Labeller",
    "LabellerCard",
    "NetworkLabeller",
    "TableLabeller",
    "labeller_names",
    "open_labeller",
    "open_trained",
    "read_card",
]
