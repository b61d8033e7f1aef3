"""Reads a report as a browser would: elements, attributes, text."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """``tags``: (name, attributes) of every element. ``text``: what a person reads. ``cells``: table numbers."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.cells: dict[tuple[str, str, str], tuple[float, str]] = {}
        """(table, method, measure) -> (value in full, value as shown)."""
        self._table = self._row = ""
        self._cell: tuple[str, str, str] | None = None
        self.feed(html.decode())
        self.close()
        assert self.open == [], "every element is closed"

    def ids(self, name: str = "section") -> list[str | None]:
        return [attributes.get("id") for tag, attributes in self.tags if tag == name]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        self._table = attributes.get("data-images") or self._table
        self._row = attributes.get("data-method") or self._row
        if tag == "td" and attributes.get("data-measure") and attributes.get("data-value"):
            self._cell = (self._table, self._row, str(attributes["data-measure"]))
            self.cells[self._cell] = (float(str(attributes["data-value"])), "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._cell = None if tag == "td" else self._cell

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data
        if self._cell:
            self.cells[self._cell] = (self.cells[self._cell][0], data.strip())
