"""The report of the embedded default as a person sees it: on a phone and on a desk, light and dark, printed."""

import os
from pathlib import Path

import pytest

PHONE, DESK = (390, 844), (1280, 900)


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_its_window_and_asks_nobody(demo_runs, browser, size, theme):
    report = demo_runs / "output" / "demo" / "report.html"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(report.as_uri())
    assert browser.execute_script("return innerWidth") == size[0]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    outside = """return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && !e.closest('svg')
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert browser.execute_script(outside) == []
    paper, ink = (brightness(browser, f"return getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (paper > 200 and ink < 60) if theme == "light" else (paper < 60 and ink > 200)
    label = brightness(browser, "return getComputedStyle(document.querySelector('figure svg text')).fill")
    assert abs(label - ink) < 30, "the plots' text is the page's"
    if (pictures := os.environ.get("PICTURES")) and (size, theme) == (DESK, "light"):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics | {"height": 1250})
        browser.save_screenshot(str(Path(pictures) / "report.png"))


def brightness(browser, script: str) -> float:
    """Mean of red, green and blue of the colour, rgb(...), that `script` returns."""
    parts = browser.execute_script(script).removeprefix("rgba(").removeprefix("rgb(").removesuffix(")").split(",")
    return sum(map(float, parts[:3])) / 3
