"""The lines at the bottom of a terminal, as a terminal of a few columns would show them."""

import logging
import os
import re
from types import SimpleNamespace

import pytest

from job.system import live_view as module
from job.system.live_view import LiveView, LogAbove, view_lines

FACTS = ["loss 0.0123", "28.3 examples/s", "GPU 12.3 of 15.8 GiB, 87 % busy", "0.12 USD so far"]


class Screen:
    """What a terminal that is never full shows of what is written to it."""

    def __init__(self) -> None:
        self.lines, self.row, self.column = [""], 0, 0

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no terminal behind it")

    def flush(self) -> None:
        """Everything is shown at once."""

    def write(self, text: str) -> None:
        for part in re.findall(r"\x1b\[\d*[A-Z]|\r|\n|[^\x1b\r\n]+", text):
            if part == "\x1b[J":
                self.lines[self.row :] = [self.lines[self.row][: self.column]]
            elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
                self.row -= int(up[1])
            elif part == "\r":
                self.column = 0
            elif part == "\n":
                self.row += 1
                self.lines += [""] * (self.row == len(self.lines))
            else:
                line = self.lines[self.row]
                self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)

    @property
    def shown(self) -> list[str]:
        return [line for line in self.lines if line]


@pytest.fixture
def screen(monkeypatch) -> Screen:
    made = Screen()
    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=made))  # pytest puts its own into sys once a test begins
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("RANK", raising=False)
    return made


@pytest.fixture
def view(screen, monkeypatch) -> LiveView:
    made = LiveView()
    monkeypatch.setattr(module, "live_view", made)
    monkeypatch.setattr(module, "DRAWN_EVERY_S", 0)
    return made


def test_stage_bar_time_left_and_figures_are_there_and_what_was_there_before_is_not(view, screen):
    view.show("train", 1, 600, 99, FACTS)
    view.show("train", 270, 600, 155, FACTS[:1])
    assert screen.shown == ["train [##############----------------] 45 %  270 of 600  0:02:35 left", "loss 0.0123"]
    view.clear()
    assert screen.shown == []


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_lost(width):
    above, *lines = view_lines("train", 270, 600, 155, FACTS, width)
    assert above == "", "for what a library prints"
    assert max(map(len, lines)) < width
    assert " ".join(lines[1:]) == ", ".join(FACTS)
    assert lines[0].startswith("train ")
    assert "45 %" in lines[0]
    assert ("#" in lines[0]) == (width >= 40)
    assert ("270 of 600" in lines[0]) == (width >= 60)


def test_a_log_line_comes_above_and_stays(view, screen):
    log, handler = logging.getLogger("above"), LogAbove(screen)
    log.propagate, log.handlers = False, [handler]
    view.show("train", 1, 2, 5, FACTS)
    log.warning("disk is nearly full")
    view.show("train", 2, 2, 0, FACTS)
    assert screen.shown[0] == "disk is nearly full"
    assert screen.shown[1].startswith("train [####")
    assert len(screen.shown) == 3
    view.clear()
    assert screen.shown == ["disk is nearly full"]


def test_what_a_library_prints_replaces_the_view_which_is_drawn_anew_below(view, screen):
    view.show("train", 1, 2, 5, FACTS)
    screen.write("a library's warning that is longer than the line with the bar, and so covers all of that line of the view\r\n")
    view.show("train", 2, 2, 0, FACTS[:1])
    assert screen.shown[0].startswith("a library's warning")
    assert screen.shown[1:] == ["train [##############################] 100 %  2 of 2  0:00:00 left", "loss 0.0123"]


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("RANK", "1")])
def test_nothing_is_drawn_on_a_terminal_without_a_cursor_or_by_another_process_than_the_first(
    view, screen, monkeypatch, name, value
):
    monkeypatch.setenv(name, value)
    view.show("train", 1, 2, 5, FACTS)
    assert not view.is_possible
    assert screen.shown == []


def test_it_is_drawn_now_and_then_and_always_at_the_end(screen):
    view = LiveView()
    for done in range(1, 4):
        view.show("train", done, 1000, 5)
    assert screen.shown[0].endswith("1 of 1000  0:00:05 left")
    view.show("train", 1000, 1000, 0)
    assert screen.shown[0].endswith("1000 of 1000  0:00:00 left")


def test_a_terminal_that_was_closed_ends_nothing(view, screen, monkeypatch):
    def closed(_text: str) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(screen, "write", closed)
    view.show("train", 1, 2, 5, FACTS)
    view.clear()
