"""Of the site: pages that lie outside this folder come in, and links to what the site does not have become plain words."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "deploy/README.md": "deploy.md",
    "ganinv/generators/assets/portraits-64/MODEL_CARD.md": "generator-card.md",
}
"""File of the repository -> page of the site."""
PICTURES = {"ganinv/generators/assets/portraits-64/samples.png": "pictures/samples.png"} | {
    path.relative_to(ROOT).as_posix(): f"pictures/methods/{path.parent.name}.png"
    for path in sorted((ROOT / "ganinv/methods/assets").glob("*/reconstructions.png"))
}

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def on_config(config: Any, **_: Any) -> Any:
    """Pages that ``nav`` does not name are at its end, so that none is lost."""
    named = set(re.findall(r"[\w/.+-]+\.md", str(config.nav)))
    docs = Path(config.docs_dir)
    left = sorted({str(page.relative_to(docs)) for page in docs.rglob("*.md")} - named)
    if left:
        config.nav.append({"More": left})
    return config


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages and pictures from elsewhere."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for source, picture in PICTURES.items():
        if (ROOT / source).exists():
            files.append(File.generated(config, picture, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Links as the site has them."""
    origin = {page_: source for source, page_ in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def link(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        if re.match(r"\w+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        place = normpath(f"{dirname(origin)}/{path}").lstrip("/")
        here = {**PAGES, **PICTURES}.get(place, place.removeprefix("docs/") if place.startswith("docs/") else "")
        if not here or files.get_file_from_path(here) is None:
            return words
        return f"{picture}[{words}]({relpath(here, dirname(page.file.src_uri) or '.')}{'#' + anchor if anchor else ''})"

    parts = re.split(r"(^```.*?^```)", markdown, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)
