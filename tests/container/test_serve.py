"""The page of `serve` as a person uses it, on a phone and on a desk, light and dark; and OpenAI's own client."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.commands.test_serve import served
from tests.container.test_report import DESK, PHONE, brightness

OPENAI = "openai==3.57.0"
"""The client that programs use, in an environment of its own: the job does not need it."""
INPUT = "Dentist, 25th November 2026, 8:30pm"


@pytest.fixture(scope="module")
def address(demo_runs, tmp_path_factory):
    """That of a server of the embedded default."""
    before = Path.cwd()
    os.chdir(demo_runs)
    with served({}) as (_, found):
        os.chdir(before)
        yield found


def seen(browser, selector: str) -> str:
    """The text of an element, once it has one."""
    return WebDriverWait(browser, 30).until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector).text)


def show(browser, address: str, size: tuple[int, int], theme: str) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(address)
    seen(browser, "#found")


def ask(browser, text: str) -> None:
    browser.find_element(By.CSS_SELECTOR, "#fields textarea").send_keys(text)
    browser.find_element(By.ID, "send").click()
    seen(browser, "#side-adapter .text")


def without_deleted(browser, element) -> str:
    """The answer in an element that is marked against another text."""
    script = "return [...arguments[0].childNodes].filter(n => n.tagName !== 'DEL').map(n => n.textContent).join('')"
    return browser.execute_script(script, element)


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_its_window_and_asks_only_its_server(address, browser, size, theme):
    show(browser, address, size, theme)
    ask(browser, INPUT)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    outside = """return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .map(e => e.outerHTML.slice(0, 80))"""
    assert browser.execute_script(outside) == []
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert asked
    assert all(name.startswith((address, "data:")) for name in asked)
    paper, ink = (brightness(browser, f"return getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert (paper > 200 and ink < 60) if theme == "light" else (paper < 60 and ink > 200)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    names = {(DESK, "light"): "serve.png", (PHONE, "dark"): "serve-phone.png"}
    if (pictures := os.environ.get("PICTURES")) and (name := names.get((size, theme))):
        browser.execute_script("scrollTo(0, 0)")
        browser.save_screenshot(str(Path(pictures) / name))


def test_both_sides_answer_and_what_differs_is_marked(address, browser):
    show(browser, address, DESK, "light")
    ask(browser, INPUT)
    base, adapter = (browser.find_element(By.CSS_SELECTOR, f"#side-{side} .text") for side in ("base", "adapter"))
    assert adapter.text.startswith("2026-11-25")
    assert base.text != adapter.text
    assert browser.execute_script("return [...document.querySelectorAll('#side-adapter ins')].map(e => e.textContent).join('')")
    assert "% a token" in seen(browser, "#side-adapter .faint")


def test_a_row_that_got_worse_is_asked_again_and_marked_against_its_right_answer(address, browser):
    show(browser, address, DESK, "light")
    assert Select(browser.find_element(By.ID, "order")).first_selected_option.text.startswith("got ")
    Select(browser.find_element(By.ID, "order")).select_by_value("all")
    WebDriverWait(browser, 30).until(lambda driver: "of 240" in driver.find_element(By.ID, "found").text)
    card = browser.find_element(By.CSS_SELECTOR, "#list .change")
    _, truth, _, adapter, _ = (cell.text for cell in card.find_elements(By.TAG_NAME, "dd"))
    said = without_deleted(browser, card.find_elements(By.TAG_NAME, "dd")[3])
    card.find_element(By.TAG_NAME, "button").click()
    assert truth in seen(browser, "#truth .text")
    shown = without_deleted(browser, browser.find_element(By.CSS_SELECTOR, "#side-adapter .text"))
    assert shown == said, "the evaluation's answer, once more"
    assert adapter


def test_a_pasted_table_comes_back(address, browser, tmp_path):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    show(browser, address, DESK, "light")
    browser.find_element(By.ID, "paste").send_keys(f'input,n\n"{INPUT}",1\n"Dentist, 25th November 2026, 8:30pm",2\n')
    browser.find_element(By.ID, "answer-table").click()
    assert "2 of 2 rows" in WebDriverWait(browser, 30).until(
        lambda driver: driver.find_elements(By.ID, "saved") and driver.find_element(By.ID, "table-status").text
    )
    for _ in range(100):
        if (made := tmp_path / "pasted.csv").exists():
            break
        time.sleep(0.1)
    lines = made.read_text().splitlines()
    assert lines[0] == "input,n,output,confidence"
    assert len(lines) == 3


def test_what_is_wrong_stands_on_the_page(address, browser):
    show(browser, address, DESK, "light")
    browser.find_element(By.ID, "paste").send_keys("other\n1\n")
    browser.find_element(By.ID, "answer-table").click()
    assert 'no column "input"; found "other"' in seen(browser, "#table-error")
    browser.find_element(By.ID, "send").click()
    assert "is empty" in seen(browser, "#ask-error")


def test_a_table_that_is_too_large_is_told_before_it_is_sent(address, browser, tmp_path):
    show(browser, address, DESK, "light")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(2**26 + 1)
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "large.csv"))
    browser.find_element(By.ID, "answer-table").click()
    assert seen(browser, "#table-error") == "large.csv has 65 MiB; at most 64 MiB are read. Send it in parts."
    sent = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert not [name for name in sent if "/api/tables" in name]


def test_a_text_is_never_html(address, browser):
    show(browser, address, DESK, "light")
    ask(browser, "<img src=x onerror=document.title='taken'><b>Lunch</b> at 4pm on March 3rd, 2027?")
    assert browser.execute_script("return document.querySelectorAll('#content img, #content b').length") == 0
    assert browser.title == "demo: try it"


def test_openais_client_works_as_it_comes(address, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "own"], check=True)
    subprocess.run([tmp_path / "own/bin/pip", "install", "--quiet", OPENAI], check=True)
    program = f"""
import openai
client = openai.OpenAI(base_url="{address}/v1", api_key="none", max_retries=0)
assert [model.id for model in client.models.list()] == ["demo", "base"]
whole = client.completions.create(model="demo", prompt=["{INPUT}", "x"])
assert [choice.index for choice in whole.choices] == [0, 1] and whole.usage.total_tokens > 0
asked = [dict(role="user", content="{INPUT}")]
said = client.chat.completions.create(model="demo", messages=asked, temperature=0, max_tokens=500).choices[0]
assert said.message.content == whole.choices[0].text and said.finish_reason == "stop"
parts = client.chat.completions.create(model="demo", messages=asked, stream=True)
assert "".join(part.choices[0].delta.content or "" for part in parts) == whole.choices[0].text
short = client.chat.completions.create(model="demo", messages=asked, max_completion_tokens=1)
assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 1
text, chat = client.completions.create, client.chat.completions.create
for create, usual, wrong, error in (
    (text, dict(prompt="x"), dict(temperature=0.7), openai.BadRequestError),
    (text, dict(prompt="x"), dict(model="gpt"), openai.NotFoundError),
    (text, dict(prompt="x"), dict(echo=True), openai.BadRequestError),
    (text, dict(prompt="x"), dict(logprobs=0), openai.BadRequestError),
    (text, dict(prompt="x"), dict(extra_body=dict(messages=asked)), openai.BadRequestError),
    (chat, dict(messages=asked), dict(extra_body=dict(prompt="x")), openai.BadRequestError),
    (chat, dict(messages=asked), dict(response_format=dict(type="json_object")), openai.BadRequestError),
    (chat, dict(messages=asked), dict(tools=[dict(type="function", function=dict(name="f"))]), openai.BadRequestError),
    (chat, dict(messages=asked), dict(prediction=dict(type="content", content="x")), openai.BadRequestError),
):
    try:
        create(**dict(model="base") | usual | wrong)
    except error as refused:
        assert refused.message
    else:
        raise SystemExit(f"{{wrong}} was not refused")
print(whole.choices[0].text)
"""
    ended = subprocess.run([tmp_path / "own/bin/python", "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("2026-11-25")
