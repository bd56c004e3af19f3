"""What the counts say: a line for each thing that limits the scores, and nothing where there is none."""

import json
from dataclasses import asdict, replace

import pytest

from job.data.look import Answers, Chats, FirstRow, Found, Label, Look, PartCounts, Piece, TableFacts, percent, quote

FINE = Look((TableFacts("mine.csv", 1000, 1000),), PartCounts(800, reachable=800), PartCounts(200, reachable=200))
CONTRADICTORY = Found(5, ("row 7", "yes", "row 12", "no"))


def only(look: Look) -> str:
    (line,) = look.warnings()
    return line


def test_where_nothing_limits_the_scores_nothing_is_said():
    assert FINE.warnings() == []
    balanced = Answers(2, (Label("yes", 500, 120), Label("no", 300, 80)))
    assert replace(FINE, answers=balanced, training=replace(FINE.training, repeated=Found(9, ("row 3", "row 2")))).warnings() == []


def test_contradictions_are_told_with_what_they_leave_to_be_reached():
    training = PartCounts(800, CONTRADICTORY, reachable=797)
    line = only(replace(FINE, training=training))
    assert line.startswith("5 of 800 training rows have the input of another row and another answer, so exact match can reach ")
    assert "at most 99.6 % (797 of 800) on the training rows" in line
    assert 'row 7 says "yes", row 12 "no"' in line
    both = replace(FINE, training=training, held_out=PartCounts(200, Found(4, ("row 90", "a", "row 91", "b")), reachable=198))
    line = only(both)
    assert line.startswith("5 of 800 training and 4 of 200 held-out rows")
    assert "99.0 % (198 of 200) on the held-out rows" in line
    assert 'row 90 says "a"' in line


def test_held_out_rows_that_are_training_rows_are_told_with_the_first_pair():
    line = only(replace(FINE, shared=Found(3, ("row 9", "row 4"))))
    assert line.startswith("3 of 200 held-out inputs are those of training rows")
    assert "held-out row 9 is training row 4" in line


@pytest.mark.parametrize(("rows", "is_told"), [(760, False), (761, True), (800, True)])
def test_a_label_above_95_of_100_is_told(rows, is_told):
    look = replace(FINE, answers=Answers(2, (Label("other", rows, 190),)))
    assert [line.partition(" of the training")[0] for line in look.warnings()] == ([percent(rows, 800)] if is_told else [])


def test_spellings_of_a_label_and_labels_that_were_never_trained_are_told():
    line = only(replace(FINE, answers=Answers(3, alike=(("Yes", "yes"), ("no", "No")))))
    assert '"Yes" and "yes"; "no" and "No"' in line
    assert 'row 3, "maybe"' in only(replace(FINE, answers=Answers(3, unseen=Found(1, ("row 3", "maybe")))))


def test_what_is_kept_as_json_is_read_again():
    first = (FirstRow("row 2", (3, 1), (Piece("a\n", False), Piece("b", True))),)
    table = TableFacts("a", 3, 2, ("row 4",), files=(("b.csv", 3),), notes=("hidden rows are left out",))
    look = replace(
        FINE, tables=(table,), answers=Answers(1, (Label("x", 1, 0),), (("x", "X"),)), chats=Chats({"2": 3}), first=first
    )
    assert Look.from_dict(json.loads(json.dumps(asdict(look)))) == look
    assert Look.from_dict(None) is None


@pytest.mark.parametrize(
    ("count", "total", "shown"),
    [(0, 9, "0.0 %"), (9, 9, "100.0 %"), (1, 9, "11.1 %"), (99_999, 100_000, "99.9 %"), (1, 100_000, "0.1 %"), (0, 0, "0.0 %")],
)
def test_a_share_is_all_or_nothing_only_where_it_is(count, total, shown):
    assert percent(count, total) == shown


def test_a_quoted_text_is_one_short_line():
    assert quote("a\n b") == '"a b"'
    assert quote("x" * 41) == f'"{"x" * 39}…"'
