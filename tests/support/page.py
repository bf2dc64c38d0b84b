"""Hostile text for labels and answers, and the tags of a page that has to show it as text."""

from __future__ import annotations

from html.parser import HTMLParser

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>&\"'$_{^"


class Tags(HTMLParser):
    """Collect the tags of a page, each with its attributes, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
