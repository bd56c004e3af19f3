"""TensorBoard as a person sees it: in a browser on this machine, and from nowhere else."""

import re
import socket
import subprocess
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.container.clones import Clone


@pytest.fixture
def shown(make_clone) -> Clone:
    """A clone whose TensorBoard is up and healthy."""
    clone = make_clone(1000)
    started = clone.compose("up", "--detach", "--wait", "tensorboard")
    assert started.returncode == 0, started.stderr
    return clone


def test_a_browser_shows_the_runs_name_and_the_curve_of_its_loss(shown, browser):
    assert shown.run_job(RUN_NAME="my-run", NUM_TRAIN_EPOCHS="3", EVAL_MAX_ROWS="8").returncode == 0
    browser.get(f"http://127.0.0.1:{shown.port}/?tagFilter=%5Etrain%2Floss%24#timeseries")
    wait = WebDriverWait(browser, 60)
    card = wait.until(lambda page: [card for card in page.find_elements(By.CSS_SELECTOR, "scalar-card") if is_loss(card.text)])[0]
    last_step = re.search(r"my-run\n([\d.]+)\n([\d.]+)\n360\n", card.text)
    assert 0 < float(last_step[2]) < 1, "the curve of 360 steps ends below where it began"
    wait.until(lambda _: share_of_columns_with_colour(card.find_element(By.CSS_SELECTOR, "line-chart").screenshot_as_png) > 0.5)


def is_loss(text: str) -> bool:
    """Whether a card with this text is that of train/loss, and its run is loaded."""
    return text.startswith("train\n/loss\n") and "my-run" in text


def share_of_columns_with_colour(png: bytes) -> float:
    """How much of a picture's width a coloured curve spans; all else in a chart is black, grey or white."""
    pixels = np.asarray(Image.open(BytesIO(png)).convert("HSV"))  # (height, width, 3)
    return float((pixels[..., 1] > 60).any(axis=0).mean())


def test_it_answers_on_this_machine_only(shown):
    addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True).stdout.split()
    elsewhere = [address for address in addresses if ":" not in address]
    assert elsewhere, "this machine has no address but the loopback to try"
    with socket.create_connection(("127.0.0.1", shown.port), timeout=5):
        pass
    for address in elsewhere:
        with pytest.raises(OSError, match=r"refused|timed out"):
            socket.create_connection((address, shown.port), timeout=5)
