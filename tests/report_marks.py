"""Which file and field each number of a report page says that it is of, and what those files hold."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import pytest
import yaml

from trainers.analysis.loading import load_run
from trainers.analysis.run_files import read_table

WORDS = {True: {"yes", "within", "within budget"}, False: {"no", "over", "over budget"}}
NUMBER = re.compile(r"(?<![\w.-])\d[\d,.]*")


def parsed(page: str) -> Element:
    """The page as a tree. Raises: html5lib.html5parser.ParseError if it is not valid HTML."""
    root: Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page)
    return root


def text_of(element: Element) -> str:
    return "".join(element.itertext()).strip()


def quoted(page: str) -> list[tuple[str, str, str, str | None]]:
    """Source, field, text and value of every element that says which field it shows."""
    found = []

    def walk(element: Element, source: str | None) -> None:
        source = element.attrib.get("data-source", source)  # of the nearest element around that says it
        if "data-field" in element.attrib:
            assert source is not None, element.attrib
            found.append((source, element.attrib["data-field"], text_of(element), element.attrib.get("value")))
        for child in element:
            walk(child, source)

    walk(parsed(page), None)
    return found


def looked_up(content: Any, field: str) -> Any:
    for key in field.split("."):
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


def source_of(run: Path, source: str) -> Any:
    """What a report quotes from: a JSON or YAML file, the state of a run, or a line of `metrics.csv`."""
    if source == "status.json":
        return load_run(run).state.model_dump(mode="json", by_alias=True)
    if source.startswith("metrics.csv line "):
        rows = read_table(run / "metrics.csv", required=("epoch",)).to_dict("records")
        return rows[int(source.rpartition(" ")[2]) - 2]
    return yaml.safe_load((run / source).read_text(encoding="utf-8"))


def shows(text: str, value: Any) -> bool:
    """Whether the text is the value, rounded to no fewer than three digits or to a thousandth."""
    if isinstance(value, bool):
        return text in WORDS[value]
    if isinstance(value, str):
        return text == value.strip()
    bare = text.removesuffix(" s").replace(",", "")
    number = float(bare.removesuffix(" %")) / 100 if bare.endswith("%") else float(bare)
    return number == pytest.approx(value, rel=6e-4, abs=5.1e-4)


def assert_true_to_files(page: str, run: Path) -> list[str]:
    """The fields that a page quotes, each seen to be as in its file."""
    contents: dict[str, Any] = {}
    fields = []
    for source, field, text, value in quoted(page):
        if source not in contents:
            contents[source] = source_of(run, source)
        content = contents[source]
        recorded = content[field] if source.startswith("metrics") else looked_up(content, field)
        assert shows(text, recorded), (source, field, text, recorded)
        assert value is None or json.loads(value) == recorded, (source, field)
        fields.append(field)
    return fields


def leaves(content: Any, field: str) -> Iterator[str]:
    """The fields that hold a number."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, f"{field}.{key}")
    elif isinstance(content, int | float):
        yield field


def loose_numbers(root: Element) -> list[str]:
    """Numbers in the text that nothing says the origin of. Names, commands and drawings are not figures."""
    found = []

    def walk(element: Element) -> None:
        marked = (
            element.attrib.keys() & {"data-field", "data-derived"} or "name" in element.attrib.get("class", "").split()
        )
        if str(element.tag).rpartition("}")[2] in ("data", "code", "pre", "time", "svg", "style", "title") or marked:
            return
        found.extend(NUMBER.findall(element.text or ""))
        for child in element:
            walk(child)
            found.extend(NUMBER.findall(child.tail or ""))

    walk(root)
    return found


def rows_of(page: str, section: str) -> list[list[str]]:
    root = parsed(page)
    (found,) = (s for s in root.iter("section") if s.attrib["id"] == section)
    return [[text_of(cell) for cell in row] for row in next(found.iter("table")).iter("tr")][1:]
