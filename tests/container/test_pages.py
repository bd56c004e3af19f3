"""The pages of TensorBoard that a person opens, in a browser: curves, answers, the table of runs, what matters on one page."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.support.ui import WebDriverWait

from tests.ports import free_port

INNER_TEXT = """
function text(node) {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent + " ";
  if (node.nodeType === Node.ELEMENT_NODE && ["STYLE", "SCRIPT", "TEMPLATE", "DOM-MODULE"].includes(node.tagName)) return "";
  const inside = node.shadowRoot ? [...node.shadowRoot.childNodes] : [];
  return [...inside, ...node.childNodes].map(text).join("");
}
return text(document.body).replace(/\\s+/g, " ");"""
"""All that a page shows, that of web components too."""
SETTLE_S = 3
"""Until charts have drawn themselves."""


@pytest.fixture(scope="module")
def tensorboard(demo_runs) -> Iterator[str]:
    """The address of a TensorBoard of both runs."""
    port = free_port()
    command = [Path(sys.executable).with_name("tensorboard"), "--logdir", "logs", "--port", str(port)]
    with subprocess.Popen(command, cwd=demo_runs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        yield f"http://127.0.0.1:{port}/"
        server.terminate()


@pytest.fixture
def open_page(tensorboard, browser):
    """Opens a page and returns its text once it has all that is expected there; keeps a picture where PICTURES says."""

    def look(address: str, *expected: str, picture: str | None = None) -> str:
        def seen(driver) -> str | bool:
            try:
                text = driver.execute_script(INNER_TEXT)
            except StaleElementReferenceException:
                return False
            return text if all(part in text for part in expected) else False

        WebDriverWait(browser, 60, ignored_exceptions=(Exception,)).until(lambda driver: driver.get(tensorboard) is None)
        browser.get("about:blank")
        browser.get(tensorboard + address)
        text = WebDriverWait(browser, 60).until(seen, f"{address}: {expected}")
        if picture and (pictures := os.environ.get("PICTURES")):
            time.sleep(SETTLE_S)
            browser.save_screenshot(str(Path(pictures) / f"tensorboard-{picture}.png"))
        return text

    return look


def test_time_series_has_the_curves_in_groups(open_page):
    text = open_page("#timeseries", "demo", "half-rate", "data", "eval", "memory", "speed", "train")
    assert text.index("half-rate") > 0


def test_text_has_the_same_rows_with_the_answers_of_each_evaluation(open_page, demo_runs):
    open_page("#text", "answers", "settings", "right answer", "step 600", "step 120", "MODEL_ID", picture="text")


def test_the_table_of_runs_compares_settings_and_final_scores(open_page):
    text = open_page("#hparams", "learning_rate", "final/exact_match", "demo", "half-rate")
    assert "final/loss" in text


def test_what_matters_is_on_one_page(open_page):
    expected = "What matters", "loss: training rows, held-out rows", "Speed and memory"
    open_page("#custom_scalars", *expected, picture="custom-scalars")
