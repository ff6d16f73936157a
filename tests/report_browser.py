"""A report as a browser shows it: opened in headless Chromium, pictured, and measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
WIDE, PHONE = 1280, 390  # pixels
# Of each piece of text its contrast with what is painted below its middle, by WCAG 2.2, section 1.4.3; those too low.
LOW_CONTRAST = """
least => {
  const colour = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (a, b) => [0, 1, 2].map(i => a[i] * a[3] + b[i] * (1 - a[3]));
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => .2126 * linear(c[0] / 255) + .7152 * linear(c[1] / 255) + .0722 * linear(c[2] / 255);
  const painted = element => {
    const style = getComputedStyle(element), svg = element instanceof SVGGeometryElement;
    if (!svg && element.closest('svg')) return null;
    const paint = svg ? style.fill : style.backgroundColor;
    if (!paint.startsWith('rgb')) return null;
    const c = colour(paint); c[3] *= Number(style.opacity) * (svg ? Number(style.fillOpacity) : 1); return c; };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const parent = node.parentElement;
    if (!node.data.trim() || parent.closest('title,desc,style,defs')) continue;
    const range = document.createRange(); range.selectNodeContents(node);
    const box = range.getBoundingClientRect(), scroller = parent.closest('.wide');
    if (!box.width || !box.height) continue;
    const x = box.x + box.width / 2, y = box.y + box.height / 2;
    if (x >= innerWidth || (scroller && x > scroller.getBoundingClientRect().right)) continue;
    const stack = document.elementsFromPoint(x, y), own = stack.indexOf(parent);
    let ground = colour(getComputedStyle(document.documentElement).backgroundColor);
    for (const element of stack.slice(Math.max(0, own)).reverse()) {
      const c = painted(element); if (c && !(element === parent && parent.closest('svg'))) ground = over(c, ground); }
    const style = getComputedStyle(parent), ink = colour(parent.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(over(ink, ground)), light(ground)].sort((m, n) => n - m);
    const contrast = (a + .05) / (b + .05);
    if (contrast < least) found.push([node.data.trim(), parent.tagName, contrast.toFixed(2), ink + ' on ' + ground]);
  }
  return found;
}
"""
WIDER = """
() => { const wide = document.documentElement.clientWidth;
  return [...document.body.querySelectorAll('*')].filter(e => !e.parentElement.closest('.wide, svg')
    && e.getBoundingClientRect().right > wide + 1).map(e => e.tagName + '.' + e.className).slice(0, 5); }
"""


@dataclass
class Seen:
    """What a page did while it was open: its messages and errors, and what it asked for besides itself."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def low_contrast(self, *, least: float) -> list[list[str]]:
        found: list[list[str]] = self.page.evaluate(LOW_CONTRAST, least)
        return found

    def wider_than_the_page(self) -> list[str]:
        """Elements that reach over its right edge, besides those that scroll by themselves."""
        found: list[str] = self.page.evaluate(WIDER)
        return found

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        pixels: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return pixels


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, path: Path, *, width: int, scheme: str, pictures: bool = True) -> Iterator[Seen]:
    """The page in a window as high as itself, all of its details open. `pictures`: whether images and SVG are shown."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    seen = Seen(page)
    page.on("console", lambda message: seen.errors.append(message.text))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    if not pictures:
        page.add_style_tag(content="svg, img { display: none !important }")
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": height})
    try:
        yield seen
    finally:
        context.close()
