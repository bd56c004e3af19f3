"""TensorBoard: groups, layout, texts as they are, lengths, what a cut-off run wrote, and the table of runs."""

import html
import re
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata
from tensorboard.summary.writer import event_file_writer

from job.training.curves import Curves, markdown_table, tag, write_final_scores

NASTY = 'a | b\n**c** <script>x</script> `d` [e](http://f) &amp; "g" _h_ # i'


def read(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0}).Reload()


@pytest.fixture
def curves(tmp_path) -> Curves:
    return Curves(tmp_path, {"MODEL_ID": "demo", "PROMPT_TEMPLATE": "{a}|{b}"}, {"input": np.array([3, 4, 4, 9])})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", "train/loss"),
        ("grad_norm", "train/grad_norm"),
        ("loss_scale", "train/loss_scale"),
        ("eval_loss", "eval/loss"),
        ("eval_exact_match", "eval/exact_match"),
        ("eval_runtime", "speed/eval_runtime"),
        ("examples_per_second", "speed/examples_per_second"),
        ("peak_memory_gib", "memory/peak_memory_gib"),
        ("padding_share", "data/padding_share"),
    ],
)
def test_every_curve_has_a_group(name, expected):
    assert tag(name) == expected


def test_what_matters_has_a_layout_lengths_a_histogram_and_settings_a_table(curves, tmp_path):
    curves.start(0, 6)
    curves.log({"loss": 2.0, "epoch": 0.5}, 1)
    events = read(tmp_path)
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["What matters", "Speed and memory"]
    assert list(layout.category[0].chart[0].multiline.tag) == ["train/loss", "eval/loss"]
    histogram = events.Histograms("data/input_tokens")[0].histogram_value
    assert (histogram.num, histogram.min, histogram.max) == (4, 3, 9)
    settings = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "<td>PROMPT_TEMPLATE</td>\n<td>{a}|{b}</td>" in html.unescape(markdown_to_safe_html(settings))
    assert events.Tags()["scalars"] == ["train/loss"], "not the epoch"


def test_cells_are_shown_as_they_are():
    page = markdown_to_safe_html(markdown_table(("x", "y"), [(NASTY, "z")]))
    assert page.count("<td>") == 2
    cell = page.split("<td>")[1].split("</td>")[0]
    assert html.unescape(cell.replace("<br>", "\n")) == NASTY


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_cell_with_any_end_of_a_line_stays_one_cell(end):
    page = markdown_to_safe_html(markdown_table(("x", "y"), [(f"a{end}b", "c"), ("d", "e")]))
    assert page.count("<tr>") == 3
    assert re.search(r"<td>a<br ?/?>b</td>\s*<td>c</td>", page)


def test_points_after_the_step_that_a_run_goes_on_from_vanish(curves, tmp_path):
    curves.start(0, 6)
    for step in (2, 4, 6):
        curves.log({"loss": float(step)}, step)
        curves.show([("q", "a", f"answer {step}")], step)
    curves.close()
    again = Curves(tmp_path, curves.settings, curves.lengths)
    again.start(4, 6)
    again.log({"loss": 60.0}, 6)
    again.show([("q", "a", "another answer")], 6)
    again.close()
    events = read(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(2, 2.0), (4, 4.0), (6, 60.0)]
    texts = {event.step: event.tensor_proto.string_val[0].decode() for event in events.Tensors("answers/text_summary")}
    assert list(texts) == [2, 4, 6]
    assert "another answer" in texts[6], "the last one of a step is the one that TensorBoard shows"
    assert len(events.Histograms("data/input_tokens")) == 1


@pytest.mark.parametrize("set_back_s", [0, 1, 3600, 30 * 86400])
def test_a_clock_that_was_set_back_loses_no_point_of_a_curve(curves, tmp_path, monkeypatch, set_back_s):
    """TensorBoard reads the files in the order of their names, which begin with the time, then the process number as text."""
    now = time.time()
    for session, (first, last) in enumerate([(0, 3), (3, 5), (5, 6)]):
        monkeypatch.setattr(event_file_writer.time, "time", lambda at=now - session * set_back_s: at)
        monkeypatch.setattr(event_file_writer.os, "getpid", lambda number=10 - session: number)
        curves.start(first, 6)
        for step in range(first + 1, last + 1):
            curves.log({"loss": float(step)}, step)
        curves.close()
    monkeypatch.setattr(event_file_writer.time, "time", lambda: now - 90 * 86400)
    write_final_scores(tmp_path, {"seed": 1}, {"exact_match": 0.5}, step=6)
    monkeypatch.undo()
    events = read(tmp_path)
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in events.Scalars("final/exact_match")] == [0.5]
    assert event_file_writer.time is time, "the library has its clock back"


def test_a_run_that_begins_again_leaves_nothing_of_its_first_try(curves, tmp_path):
    for _ in range(2):
        curves.start(0, 6)
        curves.log({"loss": 1.0}, 1)
        curves.close()
    events = read(tmp_path)
    assert len(events.Scalars("train/loss")) == len(events.Histograms("data/input_tokens")) == 1


def test_the_table_of_runs_has_settings_and_final_scores(tmp_path):
    write_final_scores(tmp_path, {"learning_rate": 0.001, "model_id": "demo", "max_steps": None}, {"exact_match": 0.9}, step=7)
    events = read(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("final/exact_match")] == [(7, pytest.approx(0.9))]
    contents = events.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["learning_rate"].number_value == 0.001
    assert start.hparams["model_id"].string_value == "demo"
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG])
    assert [info.name.tag for info in experiment.metric_infos] == ["final/exact_match"]
