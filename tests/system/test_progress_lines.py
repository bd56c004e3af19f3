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
    lines = ProgressLines()
    lines.start(10, 40)
    for step, seconds in ((20, 6), (21, 1), (40, 1)):
        clock[0] += seconds
        lines.log({"loss": 0.25, "examples_per_second": 12.34}, step)
    lines.log({"eval_loss": 1.0}, 40)
    lines.close()
    assert caplog.messages == [
        "step 20/40 (50 %), loss 0.2500, 12.3 examples/s, 0:00:12 left",
        "step 40/40 (100 %), loss 0.2500, 12.3 examples/s, 0:00:00 left",
    ]


def test_on_a_terminal_there_is_a_bar_and_no_line(clock, caplog, monkeypatch, capsys):
    caplog.set_level("INFO", "job")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    lines = ProgressLines()
    lines.start(10, 40)
    clock[0] += 6
    lines.log({"loss": 0.25, "examples_per_second": 12.34}, 40)
    assert (lines.bar.n, lines.bar.total) == (40, 40)
    lines.close()
    assert caplog.messages == []
    assert "40/40" in capsys.readouterr().err
