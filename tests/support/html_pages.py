"""Read HTML pages in tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Self

_VOID = {"meta"}


@dataclass
class Element:
    """An element of a page."""

    name: str
    attributes: dict[str, str]
    parent: Element | None = None
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, name: str | None = None) -> list[Element]:
        """Return the elements below this one, in order."""
        found: list[Element] = []
        for child in self.children:
            if isinstance(child, Element):
                found += [child] if name in (None, child.name) else []
                found += child.all(name)
        return found


class Page(HTMLParser):
    """The elements of a page; an element that is not closed properly is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self._open = Element("", {})

    @classmethod
    def parse(cls, text: str) -> Self:
        page = cls()
        page.feed(text)
        page.close()
        assert page._open is page.root
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), attrs
        element = Element(tag, {name: value or "" for name, value in attrs}, self._open)
        self._open.children.append(element)
        if tag not in _VOID:
            self._open = element

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.name == tag, (self._open.name, tag)
        assert self._open.parent is not None
        self._open = self._open.parent

    def handle_data(self, data: str) -> None:
        self._open.children.append(data)
