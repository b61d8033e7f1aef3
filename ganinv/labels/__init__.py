"""Labellers: images in, named scores out."""

from ganinv.labels.attributes import Attribute, AttributeNet, Labeller
from ganinv.labels.files import LabellerCard, labeller_names, open_labeller, read_card

__all__ = ["Attribute", "AttributeNet", "Labeller", "LabellerCard", "labeller_names", "open_labeller", "read_card"]
