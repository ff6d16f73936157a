"""Reports in a real browser: nothing overflows, all text can be read, nothing is asked of any network."""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from search_spaces.architecture import architecture_of, architecture_svg
from search_spaces.nasbench201.space import NasBench201Space, parse_arch
from tests.report_browser import CHROMIUM, PHONE, WIDE, chromium, opened
from tests.reported_runs import every_state, sampled, unmet
from tests.spaces import yaml_space
from trainers.reports.report import write_report

pytestmark = [
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}: Debian's package chromium"),
    pytest.mark.slow,
]
READABLE = 4.5  # contrast of text with its ground, WCAG 2.2, level AA
FOUR = [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light"), (PHONE, "dark")]
TWO = [(WIDE, "light"), (PHONE, "dark")]
VIEWS = [(name, *view) for name in ("done", "sweep") for view in FOUR]
VIEWS += [(name, *view) for name in ("unmet", "failed", "drawings") for view in TWO]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages go: a folder of the tests, or the one that ESPALIER_SCREENSHOTS names."""
    named = os.environ.get("ESPALIER_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    run = sampled(tmp_path_factory.mktemp("runs"))
    folders = {"done": run, "unmet": unmet(run, "unmet"), "failed": every_state(run)["failed"], "sweep": run.parent}
    found = {name: write_report(folder) for name, folder in folders.items()}
    found["labels"] = write_report(labelled(run, tmp_path_factory.mktemp("labels")))
    found["drawings"] = tmp_path_factory.mktemp("drawings") / "drawings.html"
    found["drawings"].write_text(drawings(), encoding="utf-8")
    return found


def labelled(run: Path, sweep: Path) -> Path:
    """A sweep of runs that differ in much, so that their labels are long."""
    for number in range(3):
        copy = Path(shutil.copytree(run, sweep / f"mobile-pool-seed{number}-0123abcd"))
        config = yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))
        config["hardware"]["iot_terminal"]["budgets"]["latency_ms"] = 120.5 + number
        config["optimizer"]["weight_decay"] = 0.0001 * (1 + number)
        config["space"]["widths"][4] = [96 + number, 128]
        (copy / "config.yaml").write_text(yaml.safe_dump({**config, "seed": number}), encoding="utf-8")
    return sweep


def drawings() -> str:
    """A page of both kinds of drawing, as a report shows them."""
    mobile, cell = yaml_space("mobile"), NasBench201Space()
    choices = {decision.name: decision.choices[-1] for decision in mobile.decisions}
    arch = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
    svgs = [
        architecture_svg(architecture_of(mobile, choices)),
        architecture_svg(architecture_of(cell, parse_arch(arch))),
    ]
    dark = "@media(prefers-color-scheme:dark){html{background:#11151b}}"
    style = "<style>html{background:#fff}svg{max-width:100%;height:auto}" + dark + "</style>"
    return f"<!DOCTYPE html><html lang=en><title>drawings</title>{style}<body>{''.join(svgs)}</body></html>"


@pytest.mark.parametrize(("name", "width", "scheme"), VIEWS)
def test_a_page_fits_its_window_and_can_be_read(
    browser: Any, pages: dict[str, Path], shots: Path, name: str, width: int, scheme: str
) -> None:
    with opened(browser, pages[name], width=width, scheme=scheme) as seen:
        seen.page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)
        assert seen.overflow() == 0
        assert seen.wider_than_the_page() == []
        assert seen.low_contrast(least=READABLE) == []
        assert seen.errors == []
        assert seen.requests == [pages[name].as_uri()]


def test_pictures_side_by_side_are_whole_without_scrolling(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["sweep"], width=WIDE, scheme="light") as seen:
        widths = seen.page.evaluate(
            "[...document.querySelectorAll('.pair .wide')].map(e => [e.scrollWidth, e.clientWidth])"
        )
        assert len(widths) == 2 and all(whole <= shown for whole, shown in widths)


def test_a_table_that_is_wider_than_its_box_shows_at_which_side_there_is_more(
    browser: Any, pages: dict[str, Path]
) -> None:
    with opened(browser, pages["done"], width=PHONE, scheme="light") as seen:
        box = seen.page.locator("#budgets .wide").first
        sides = {}
        for place in ("start", "end"):
            box.evaluate("(box, end) => { box.scrollLeft = end ? box.scrollWidth : 0 }", place == "end")
            picture = Image.open(io.BytesIO(box.screenshot())).convert("RGB")
            sides[place] = [picture.getpixel((x, 1)) for x in (0, picture.width - 1)]
        page = (255, 255, 255)
        assert sides["start"][0] == page != sides["start"][1]
        assert sides["end"][0] != page == sides["end"][1]
    with opened(browser, pages["done"], width=WIDE, scheme="light") as seen:
        picture = Image.open(io.BytesIO(seen.page.locator("#budgets .wide").first.screenshot())).convert("RGB")
        assert [picture.getpixel((x, 1)) for x in (0, picture.width - 1)] == [page, page]


def test_long_labels_of_a_sweep_leave_every_column_in_view(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["labels"], width=1200, scheme="light") as seen:
        boxes = seen.page.evaluate("[...document.querySelectorAll('.wide')].map(e => [e.scrollWidth, e.clientWidth])")
        assert len(boxes) > 4 and all(whole <= shown for whole, shown in boxes)


def test_text_that_is_too_pale_is_found(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "pale.html"
    drawing = (
        '<svg width="90" height="30"><rect width="90" height="30" fill="#111"/><text x="9" y="20">black</text></svg>'
    )
    page.write_text(f'<!DOCTYPE html><html style="background:#fff"><p style="color:#999">pale</p><p>dark</p>{drawing}')
    with opened(browser, page, width=WIDE, scheme="light") as seen:
        assert [found[0] for found in seen.low_contrast(least=READABLE)] == ["pale", "black"]


def test_a_page_without_pictures_still_says_every_number(browser: Any, pages: dict[str, Path], shots: Path) -> None:
    with opened(browser, pages["done"], width=WIDE, scheme="light", pictures=False) as seen:
        seen.page.screenshot(path=shots / "done-without-pictures.png", full_page=True)
        assert seen.page.evaluate("[...document.querySelectorAll('data')].every(d => d.getClientRects().length > 0)")
        headings = seen.page.evaluate("[...document.querySelectorAll('figcaption, table')].length")
        assert headings > 10 and seen.overflow() == 0


def test_a_page_prints_on_a4_in_light_colours_with_all_details(
    browser: Any, pages: dict[str, Path], shots: Path
) -> None:
    with opened(browser, pages["done"], width=688, scheme="dark") as seen:  # A4 less margins, at 96 dots an inch
        seen.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
        seen.page.emulate_media(media="print")
        seen.page.screenshot(path=shots / "done-print.png", full_page=True)
        assert seen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
        assert seen.overflow() == 0 and seen.low_contrast(least=READABLE) == []
        assert seen.page.evaluate("document.querySelector('details td').getClientRects().length") > 0
        assert seen.page.pdf(path=shots / "done.pdf", format="A4").startswith(b"%PDF")
