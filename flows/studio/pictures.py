"""Pictures as HTML: within the page, so that none of them is a file that could be asked for."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

from PIL import Image

from ganinv.data.png import png_of

SMALL = 192
"""Pictures of fewer pixels are enlarged with visible pixels no more than half: smoothly, by the browser."""


@dataclass(frozen=True)
class Shown:
    """A picture and the text below it. ``download``: the name of the file that a click saves; none, where empty."""

    title: str
    picture: Image.Image | None
    note: str = ""
    download: str = ""


def data_uri(picture: Image.Image) -> str:
    """A PNG within an address."""
    return "data:image/png;base64," + base64.b64encode(png_of(picture, compress_level=1)).decode()


def strip(pictures: Iterable[Shown], kind: str = "stage") -> str:
    """Pictures side by side. Texts may come from anywhere: they are quoted."""
    return f'<div class="gv-strip gv-{kind}">{"".join(map(_figure, pictures))}</div>'


def _figure(shown: Shown) -> str:
    title = escape(shown.title)
    if shown.picture is None:
        inner = '<div class="gv-gone">the photo is not there any more</div>'
    else:
        uri = data_uri(shown.picture)
        inner = f'<img alt="{title}" src="{uri}">'
        if shown.download:
            inner += (
                f'<a class="gv-save" download="{escape(shown.download)}" href="{uri}" title="save as PNG">&#8681;</a>'
            )
    note = f"<small>{escape(shown.note)}</small>" if shown.note else ""
    return f'<figure data-title="{title}"><div class="gv-frame">{inner}</div><figcaption>{title}{note}</figcaption></figure>'


def facts(values: Mapping[str, float | int | str]) -> str:
    """The columns of a row as a small table."""
    lines = (f"<tr><th>{escape(key)}</th><td>{escape(number(value))}</td></tr>" for key, value in values.items())
    return f'<table class="gv-facts">{"".join(lines)}</table>'


def number(value: float | int | str | None) -> str:
    """A value as it is shown: four digits of a number."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


CSS = """
.gradio-container { max-width: 1360px !important; margin: auto; }
.gv-head { display: flex; align-items: baseline; gap: .8rem; padding: .2rem 0; }
.gv-head b { font-size: 1.35rem; letter-spacing: -.02em; }
.gv-head span { color: var(--body-text-color-subdued); font-size: .9rem; }
.gv-strip { display: grid; gap: 14px; }
.gv-stage { grid-template-columns: repeat(3, minmax(0, 1fr)); }
.gv-compare { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.gv-strip figure { margin: 0; }
.gv-frame { position: relative; aspect-ratio: 1; border-radius: 10px; overflow: hidden;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.gv-frame img { width: 100%; height: 100%; object-fit: cover; display: block; margin: 0; }
.gv-strip figcaption { padding: 6px 2px 0; font-weight: 600; font-size: .92rem; }
.gv-strip figcaption small { display: block; font-weight: 400; color: var(--body-text-color-subdued); font-size: .8rem; }
.gv-gone { display: grid; place-items: center; height: 100%; padding: 1rem; text-align: center;
  color: var(--body-text-color-subdued); font-size: .85rem; }
.gv-save { position: absolute; right: 8px; bottom: 8px; width: 30px; height: 30px; border-radius: 8px; display: grid;
  place-items: center; background: rgba(20, 20, 30, .62); color: #fff !important; text-decoration: none; font-size: 17px; }
.gv-save:hover { background: rgba(20, 20, 30, .9); }
.gv-empty { display: grid; place-items: center; min-height: 260px; border: 1px dashed var(--border-color-primary);
  border-radius: 12px; color: var(--body-text-color-subdued); text-align: center; padding: 1rem; }
.gv-facts { border-collapse: collapse; font-size: .85rem; }
.gv-facts th { text-align: left; padding: 3px 18px 3px 0; font-weight: 500; color: var(--body-text-color-subdued); }
.gv-facts td { padding: 3px 0; font-variant-numeric: tabular-nums; }
.gv-paste img { max-width: 100%; max-height: 620px; border-radius: 10px; }
#gallery .grid-wrap { max-height: 470px; }
#gallery .caption-label { max-width: 96%; left: 2%; right: auto; bottom: 2%; padding: 1px 5px; font-size: .68rem; opacity: .88; }
#status { min-height: 1.6em; }
footer { display: none !important; }
"""
