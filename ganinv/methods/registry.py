"""Every kind of inverter and its recipe. To add one, write its file in this package and a line in both tables here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from ganinv.config import ChosenBy, config_path, load_yaml, validate
from ganinv.errors import ConfigError, WeightsRefused
from ganinv.methods.base import Inverter, InverterConfig
from ganinv.registry import Registry
from ganinv.training.product import Product
from ganinv.training.recipe import Recipe

INVERTERS: Registry[type[Inverter]] = Registry(
    "inverter",
    {
        "psp": "ganinv.methods.psp:Psp",
        "e4e": "ganinv.methods.e4e:E4e",
        "w": "ganinv.methods.w:WEncoder",
        "naive-w+": "ganinv.methods.w:NaiveWPlusEncoder",
        "in-domain": "ganinv.methods.in_domain:InDomainEncoder",
        "restyle": "ganinv.methods.restyle:ReStyle",
        "interestyle": "ganinv.methods.interestyle:IntereStyle",
        "e2style": "ganinv.methods.e2style:E2Style",
        "style-transformer": "ganinv.methods.style_transformer:StyleTransformer",
        "reference-editor": "ganinv.methods.reference_editor:ReferenceEditor",
        "hyperstyle": "ganinv.methods.hyperstyle:HyperStyle",
        "hfgi": "ganinv.methods.hfgi:Hfgi",
        "uda": "ganinv.methods.uda:Uda",
        "invertfill": "ganinv.methods.invertfill:InvertFill",
        "sfe": "ganinv.methods.sfe:Sfe",
        "sfe-editor": "ganinv.methods.sfe_editor:SfeEditor",
        "padinv": "ganinv.methods.padinv:PadInv",
        "sam": "ganinv.methods.sam:Sam",
    },
)


def inverter_config(data: Any, where: str) -> InverterConfig:
    """The checked configuration of an inverter from plain data with its ``kind``.

    Raises:
        WeightsRefused: no such kind, or a configuration that is not of it.
    """
    try:
        return validate(INVERTERS[str(dict(data)["kind"])].Config, data, where)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise WeightsRefused(f"{where} does not describe an inverter: {error}") from error


RECIPES: Registry[type[Recipe]] = Registry(
    "recipe",
    {
        "psp": "ganinv.methods.psp:PspRecipe",
        "e4e": "ganinv.methods.e4e:E4eRecipe",
        "in-domain": "ganinv.methods.in_domain:InDomainRecipe",
        "restyle": "ganinv.methods.restyle:ReStyleRecipe",
        "interestyle": "ganinv.methods.interestyle:IntereStyleRecipe",
        "e2style": "ganinv.methods.e2style:E2StyleRecipe",
        "style-transformer": "ganinv.methods.style_transformer:StyleTransformerRecipe",
        "invertfill": "ganinv.methods.invertfill:InvertFillRecipe",
        "sfe": "ganinv.methods.sfe:SfeRecipe",
        "sfe-editor": "ganinv.methods.sfe_editor:SfeEditorRecipe",
        "w": "ganinv.methods.w:WRecipe",
        "naive-w+": "ganinv.methods.w:NaiveWPlusRecipe",
        "hyperstyle": "ganinv.methods.hyperstyle:HyperStyleRecipe",
        "hfgi": "ganinv.methods.hfgi:HfgiRecipe",
        "uda": "ganinv.methods.uda:UdaRecipe",
        "padinv": "ganinv.methods.padinv:PadInvRecipe",
        "reference-editor": "ganinv.methods.reference_editor:ReferenceEditorRecipe",
        "sam": "ganinv.methods.sam:SamRecipe",
        "gan": "ganinv.training.gan:GanRecipe",
        "attributes": "ganinv.training.attributes:AttributeRecipe",
    },
)
"""How each kind is trained."""

PRODUCTS: Registry[type[Product]] = Registry(
    "product",
    {
        "encoders": "ganinv.methods.product:Encoders",
        "generators": "ganinv.training.gan:Generators",
        "labellers": "ganinv.training.attributes:Labellers",
    },
)
"""What recipes make, by the folder of the store that holds it."""

AnyRecipe = Annotated[Recipe, ChosenBy("kind", RECIPES)]


def load_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name (``configs/training/<name>.yaml``) or YAML path.

    Args:
        changes: values that override the file's; keys may be nested, such as ``optimizer.lr``.

    Raises:
        ConfigError: no such recipe, or an unknown key; the message suggests the nearest name.
    """
    path = config_path("training", name)
    data = load_yaml(path)
    for key, value in (changes or {}).items():
        *parts, last = key.split(".")
        inside = data
        for part in parts:
            found = inside.setdefault(part, {})
            if not isinstance(found, dict):
                raise ConfigError(f"{path.name}: {key!r} leads into {part!r}, which is a value and has no parts")
            inside = found
        inside[last] = value
    return validate(AnyRecipe, data, path.name)  # type: ignore[type-abstract,arg-type,no-any-return]
