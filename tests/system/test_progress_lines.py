"""What the terminal shows, by a clock of its own."""

import pytest

from job.system.progress_lines import ProgressLines


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, to be moved on."""
    moment = [100.0]
    monkeypatch.setattr("job.system.progress_lines.time.perf_counter", lambda: moment[0])
    return moment


def test_a_line_tells_step_loss_speed_and_the_time_left_every_few_seconds_and_at_the_end(clock, caplog):
    caplog.set_level("INFO", "job")
    lines = ProgressLines(lambda: "0.12 USD so far")
    lines.start(10, 40)
    for step, seconds in ((20, 6), (21, 1), (40, 1)):
        clock[0] += seconds
        lines.log({"loss": 0.25, "examples_per_second": 12.34}, step)
    lines.log({"eval_loss": 1.0}, 40)
    lines.close()
    assert caplog.messages == [
        "step 20/40 (50 %), loss 0.2500, 12.3 examples/s, 0:00:12 left, 0.12 USD so far",
        "step 40/40 (100 %), loss 0.2500, 12.3 examples/s, 0:00:00 left, 0.12 USD so far",
    ]


def test_on_a_terminal_there_is_a_live_view_and_no_line(clock, caplog, monkeypatch, capsys):
    caplog.set_level("INFO", "job")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    lines = ProgressLines(lambda: "GPU 3.1 of 15.8 GiB, 87 % busy")
    lines.start(10, 40)
    clock[0] += 6
    lines.log({"loss": 0.25, "examples_per_second": 12.34}, 40)
    assert caplog.messages == []
    above, *view = capsys.readouterr().err.split("\x1b[J")[-1].splitlines()
    assert above == "", "for what a library prints"
    assert view[0] == f"train [{'#' * 30}] 100 %  40 of 40  0:00:00 left"
    assert view[1].startswith("loss 0.2500, 12.3 examples/s, GPU 3.1 of 15.8 GiB, 87 % busy")
    lines.close()
    assert capsys.readouterr().err == "\r\x1b[J"
