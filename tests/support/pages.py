"""Pages for tests: written as the command does, and read as a browser would."""

import base64
import gzip
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from reports.page.document import make_page
from reports.reading import read_run
from tests.support.runs import save

_LOADING = {"src", "srcset", "action", "formaction", "data", "poster", "ping", "background", "manifest", "xlink:href"}
_FILLED = {"section", "article", "figure", "details", "ul", "dl", "table", "tbody", "caption", "h2", "h3"}
_VOID = {"input", "link", "meta"}


@dataclass
class Element:
    """An element of a page: tag, attributes, what is in it from first to last."""

    tag: str
    attributes: dict[str, str]
    content: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, in one line."""
        parts = (each if isinstance(each, str) else each.text for each in self.content)
        return " ".join("".join(parts).split())

    def find(self, tag: str = "", **wanted: str) -> Iterator["Element"]:
        """Find elements inside by tag and attributes; `class_` is `class`, `http_equiv` is `http-equiv`."""
        attributes = {name.rstrip("_").replace("_", "-"): value for name, value in wanted.items()}
        for each in self.content:
            if isinstance(each, Element):
                if each.tag == (tag or each.tag) and attributes.items() <= each.attributes.items():
                    yield each
                yield from each.find(tag, **wanted)


class _Reader(HTMLParser):
    """Builds the tree of a page, and refuses what browsers would mend."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is there twice: {attrs}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].content.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].content.append(data)


def make_html(document: object, folder: Path) -> str:
    path = save(document, folder)
    return make_page([read_run(path)], path.read_bytes())


def read_page(html: str) -> Element:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    (root,) = reader.open
    return root


def read_table(table: Element) -> list[list[str]]:
    rows = ([each.text for each in row.content if isinstance(each, Element)] for row in table.find("tr"))
    return list(rows)


def unpack(page: Element, kind: str) -> bytes:
    """Unpack what a page offers to download, `json` or `csv`, or a packed table."""
    (script,) = page.find("script", id=kind)
    content = gzip.decompress(base64.b64decode(script.text, validate=True))
    if kind != "json":
        return content
    text, _, rounds = content.partition(b"\1")  # see `reports.page.downloads.pack_run`
    text = re.sub(rb"(\n *\0,)\x02(\d+)\x02", lambda found: found[1] * int(found[2]), text)
    count = text.count(b"\0")
    seconds = (int.from_bytes(rounds[place::count], "little") / 1e9 for place in range(count))
    return re.sub(rb"\0", lambda _: repr(next(seconds)).encode(), text)


def check_soundness(page: Element) -> None:
    """Check what holds of every page: sections with content, unique ids, links that lead somewhere, nothing loaded."""
    ids = Counter(each.attributes["id"] for each in page.find() if "id" in each.attributes)
    assert max(ids.values()) == 1, ids.most_common(3)
    sections = [each.attributes["id"] for each in page.find("section") if "id" in each.attributes]
    contents = [link.attributes["href"] for each in page.find("nav") for link in each.find("a")]
    assert contents == [f"#{section}" for section in sections]
    packed = [each.attributes["data-source"] for each in page.find("details") if "data-source" in each.attributes]
    parts = [page, *(read_page(unpack(page, source).decode()) for source in packed)]
    for each in (each for part in parts for each in part.find()):
        _check_attributes(each, set(ids))
        assert each.text or each.tag not in _FILLED, f"<{each.tag}> is empty"
    for table in (table for part in parts for table in part.find("table")):
        rows = read_table(table)
        assert len(rows) > 1, f"no rows: {table.text[:80]}"
        assert len({len(row) for row in rows}) == 1, f"rows of different length: {table.text[:80]}"
    for path in (path for part in parts for path in part.find("path")):
        assert re.fullmatch(r"(M-?[\d.]+,-?[\d.]+([a-zA-Z][-\d.,\s]*)*)+", path.attributes["d"]), path.attributes["d"]


def _check_attributes(element: Element, ids: set[str]) -> None:
    """Check that an element refers to what is there, and that a browser loads and runs nothing because of it."""
    attributes = element.attributes
    for name in ("aria-labelledby", "aria-describedby", "for"):
        assert set(attributes.get(name, "").split()) <= ids, f"{name} leads nowhere: {attributes}"
    if "href" in attributes:
        target = attributes["href"]
        assert target.removeprefix("#") in ids or (element.tag, target) == ("link", "data:,"), target
    assert not _LOADING & attributes.keys(), attributes
    assert not [name for name in attributes if name == "style" or name.startswith("on")], attributes
