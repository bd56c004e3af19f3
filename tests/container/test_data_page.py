"""The look at the data as a person sees it: on a phone and on a desk, light and dark, with texts that try to be more than texts."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.conftest import environment_with
from tests.container.clones import ROOT
from tests.container.test_report import DESK, PHONE, brightness

EVIL = "<script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\"> {{ 7 * 7 }}"
ROWS = [EVIL, "x" * 600, "first line\nsecond line\x1b[31m", "مرحبا بالعالم", "a < b && c > d", "one two " * 300]
OUTSIDE = """return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def page(tmp_path_factory, t5_folder) -> Path:
    """The page of forty rows, of which three and more share each answer; the first ones are training rows."""
    folder = tmp_path_factory.mktemp("look")
    rows = [{"input": text, "output_ground_truth": text[:40], EVIL: "x"} for text in ROWS]
    rows += [{"input": f"ticket {number}", "output_ground_truth": "bug", EVIL: "y"} for number in range(40)]
    (folder / "rows.json").write_text(json.dumps(rows))
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": "rows.json", "RUN_NAME": "r", "MAX_UNKNOWN_TARGETS": "1", "DEVICE": "cpu"}
    command = [sys.executable, ROOT / "entrypoint.py", "prepare"]
    ended = subprocess.run(command, cwd=folder, env=environment_with(variables), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert max(map(len, ended.stdout.splitlines())) <= 100
    assert "\x1b" not in ended.stdout
    return folder / "output" / "r" / "data.html"


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_its_window_and_asks_nobody(page, browser, size, theme):
    open_page(browser, page, size, theme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script(OUTSIDE) == []
    paper, ink = (brightness(browser, f"return getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (paper > 200 and ink < 60) if theme == "light" else (paper < 60 and ink > 200)
    if pictures := os.environ.get("PICTURES"):
        height = min(3000, browser.execute_script("return document.documentElement.scrollHeight"))
        whole = {"width": size[0], "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", whole)
        browser.save_screenshot(str(Path(pictures) / f"data-{theme}-{size[0]}.png"))


def test_what_stands_in_a_row_is_shown_and_not_executed(page, browser):
    open_page(browser, page, DESK, "light")
    assert browser.title == "r: the data"
    assert browser.execute_script("return document.scripts.length + document.images.length") == 0
    text = browser.execute_script("return document.body.innerText")
    assert EVIL in text, "the name of a column that nobody reads"
    assert "bug" in text
    summary = json.loads((page.parent / "data" / "summary.json").read_text())
    for piece in (piece for row in summary["look"]["first"] for piece in row["pieces"]):
        assert piece["text"].split("\n")[0] in text


def test_tables_and_long_texts_can_be_reached_with_the_keyboard_and_are_named(page, browser):
    open_page(browser, page, PHONE, "light")
    unreachable = "return [...document.querySelectorAll('.scroll, dd.seen')].filter(e => e.tabIndex !== 0).length"
    assert browser.execute_script(unreachable) == 0
    assert browser.execute_script("return [...document.querySelectorAll('th')].every(e => e.scope)")
    levels = browser.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map(e => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


def test_the_report_leads_to_it(demo_runs, browser):
    browser.get((demo_runs / "output" / "demo" / "report.html").as_uri())
    browser.execute_script("document.querySelector('a[href=\"data.html\"]').click()")
    assert browser.title == "demo: the data"


def open_page(browser, page: Path, size: tuple[int, int], theme: str) -> None:
    """Opens the page in a window of this size."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
