"""The report: texts are escaped and compared, plots take the page's colours, nothing is fetched."""

import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

from job.publish.report import marked, shell_command, write_report


def test_words_that_are_missing_or_too_many_are_marked():
    assert marked("meet Anna at noon", "meet Peter at noon") == "meet <del>Peter</del><ins>Anna</ins> at noon"
    assert marked("", "noon") == "<del>noon</del>"
    assert marked("noon", "noon") == "noon"


def test_texts_cannot_be_markup():
    assert marked("<b>x</b>", "") == "<ins>&lt;b&gt;x&lt;/b&gt;</ins>"


def test_the_command_is_one_that_a_shell_takes():
    command = shell_command({"MODEL_ID": "google/flan-t5-xl", "PROMPT_TEMPLATE": 'Don\'t say "$x": {input}'})
    assert shlex.split(command) == [
        "MODEL_ID=google/flan-t5-xl",
        'PROMPT_TEMPLATE=Don\'t say "$x": {input}',
        "python",
        "entrypoint.py",
        "run",
    ]


class Tags(HTMLParser):
    """The elements of a page, its addresses, and those left open."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.open, self.addresses = [], [], []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href") or name.endswith(":href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href") or name.endswith(":href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_runs_report_is_whole_and_fetches_nothing(run_job, t5_folder, write_rows, questions):
    few = {"MAX_STEPS": "4", "MAX_NEW_TOKENS": "4", "METRICS": "exact_match,loss"}
    code, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), RUN_NAME="r", **few)
    assert code == 0, said
    text = Path("output/r/report.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert "script" not in tags.seen
    assert all(address.startswith("#") or address == "data.html" for address in tags.addresses)
    assert tags.addresses.count("data.html") == 1
    assert Path("output/r/data.html").exists()
    assert tags.seen.count("svg") == 6, "differences of scores and of loss, loss, learning rate, two histograms"
    for expected in ("held-out rows", "exact match", "Learning rate", "MAX_STEPS", "python entrypoint.py run", "transformers"):
        assert expected in text


def test_a_page_that_lacks_a_fact_is_not_written(tmp_path):
    with pytest.raises(Exception, match="undefined"):
        write_report(tmp_path / "report.html", {})
    assert not (tmp_path / "report.html").exists()
