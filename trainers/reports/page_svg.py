"""SVG text of matplotlib as it stands in a page: in the page's colours and fonts, distinct ids, few bytes."""

import io
import re
from base64 import b64decode, b64encode
from xml.etree.ElementTree import Element, fromstring, tostring

from PIL import Image

from trainers.analysis.canvas import COLOURS, GREY, INK

# Colours that matplotlib writes, and what a page calls them; its stylesheet gives each a value for light and dark.
THEMED = {colour.lower(): f"var(--plot-{i})" for i, colour in enumerate(COLOURS)}
THEMED |= {GREY.lower(): "var(--faint)", INK.lower(): "var(--ink)", "#ffffff": "var(--page)", "#000000": "var(--ink)"}
REFERENCE = re.compile(r"(?<=#)[\w-]+")


def page_svg(text: str, *, name: str, words: str) -> str:
    """The drawing to stand in HTML: `words` say what it shows, `name` keeps its ids and styles apart from others'."""
    root = fromstring(text)
    for element in root.iter():
        _plain(element)
    _keep_referenced_ids(root, name)
    _simplify(root)
    rules = _share_styles(root, name)
    for tag, content in (("style", rules), ("title", words)):
        root.insert(0, Element(tag))
        root[0].text = content
    root.attrib |= {"class": f"plot {name}", "role": "img", "aria-label": words}
    return tostring(root, encoding="unicode").replace(" />", "/>")


def _plain(element: Element) -> None:
    """No namespaces, which HTML implies; no spaces that only lay out the file; fewer digits, and the page's colours."""
    element.tag = element.tag.rpartition("}")[2]
    element.text, element.tail = element.text if element.tag == "text" else None, None
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items() if key != "version"}
    element.attrib.clear()
    for key, value in attributes.items():
        match key:
            case "id":
                element.attrib[key] = value
            case "href":
                element.attrib[key] = _few_colours(value) if value.startswith("data:") else value
            case "style":
                element.attrib[key] = _style(value)
            case "d":
                element.attrib[key] = _rounded(_path(value), decimals=2 if "id" in attributes else 1)  # small shapes
            case "transform" if value.startswith("rotate(-0 "):
                pass
            case _:
                element.attrib[key] = _rounded(value)


def _style(text: str) -> str:
    declared = (part.strip().partition(":")[::2] for part in text.split(";"))
    kept = ((key, value.strip()) for key, value in declared if key and key != "font-family")  # the page's own fonts
    return ";".join(f"{key}:{THEMED.get(value, _rounded(value))}" for key, value in kept)


def _path(text: str) -> str:
    """Commands without those that only repeat the one before."""
    kept: list[str] = []
    last = ""
    for word in text.split():
        if not (word == last and word in "LC"):
            kept.append(word)
        last = word if word.isalpha() else last
    return " ".join(kept)


def _rounded(text: str, *, decimals: int = 2) -> str:
    """Hundredths of a point, or what is asked."""
    return re.sub(r"\d+\.\d+", lambda number: f"{round(float(number[0]), decimals):g}", text)


def _few_colours(data: str) -> str:
    """A PNG picture of the same pixels, which are numbers of its few colours."""
    picture = Image.open(io.BytesIO(b64decode(data.partition(",")[2]))).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(256).save(buffer, format="png", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def _keep_referenced_ids(root: Element, name: str) -> None:
    named = {element.attrib["id"] for element in root.iter() if "id" in element.attrib}
    referred = (found for e in root.iter() for value in e.attrib.values() for found in REFERENCE.findall(value))
    short = {old: f"{name}{number}" for number, old in enumerate(dict.fromkeys(r for r in referred if r in named))}
    for element in root.iter():
        for key, value in element.items():
            if key == "id":
                element.attrib.pop(key)
                element.attrib |= {key: short[value]} if value in short else {}
            elif key in ("href", "clip-path"):
                element.attrib[key] = REFERENCE.sub(lambda found: short.get(found[0], found[0]), value)


def _simplify(parent: Element) -> None:
    """Leaves out what nobody sees and groups that group nothing; neighbours of the same attributes become one."""
    kept: list[Element] = []
    for child in parent:
        _simplify(child)
        if child.tag in ("metadata", "style") or (child.tag in ("g", "defs") and not len(child)):
            continue  # a style of its own would speak of all elements of the page
        if child.tag == "path" and child.attrib.get("style") == "fill:none":
            continue
        for part in child if child.tag == "g" and not child.attrib else (child,):
            if kept and part.tag in ("g", "defs") and (part.tag, part.attrib) == (kept[-1].tag, kept[-1].attrib):
                kept[-1].extend(part)
            else:
                kept.append(part)
    parent[:] = kept


def _share_styles(root: Element, name: str) -> str:
    """The rules of a stylesheet for the styles of all elements, which carry a class instead."""
    classes: dict[str, str] = {}
    for element in root.iter():
        if style := element.attrib.pop("style", ""):
            element.attrib["class"] = classes.setdefault(style, f"c{len(classes)}")
    return "".join(f".{name} .{c}{{{style}}}" for style, c in classes.items())
