"""What the page shows of a run: rows and answers as the evaluation has them, marks where words differ."""

import math

import pytest

from job.evaluation.evaluate import read_csv
from job.serving.page import pieces
from tests.conftest import FINISHED
from tests.serving.conftest import ASKED, site_of


@pytest.fixture(scope="module")
def rows(pristine_run):
    return read_csv(pristine_run[1] / "output" / "r" / "evaluation.csv")


def test_the_page_is_its_own_files_and_holds_nothing_of_the_run(site, request_for):
    for path, kind in (("/", "html"), ("/page.js", "javascript"), ("/page.css", "css"), ("/style.css", "css")):
        reply = site.answer(request_for("GET", path))
        assert kind in reply.kind
        assert b"http://" not in reply.content.replace(b"http://www.w3.org", b"")
        assert b"https://" not in reply.content


def test_the_run_is_told_with_how_many_rows_got_worse(ask, rows):
    status, said = ask("GET", "/api/about")
    assert status == 200
    metric = said["metric"].replace(" ", "_")
    gains = [float(row[f"adapter_{metric}"]) - float(row[f"base_{metric}"]) for row in rows]
    assert said["rows"] == {"all": len(rows), "worse": sum(gain < 0 for gain in gains), "better": sum(gain > 0 for gain in gains)}
    assert (said["run"], said["fields"], said["limit"], said["table_bytes"]) == ("r", ["input"], 512, 2**26)


def test_a_held_out_row_is_answered_as_in_the_evaluation(ask, rows):
    for number, row in enumerate(rows[:3]):
        status, said = ask("POST", "/api/ask", {"held_out": number})
        assert status == 200
        assert (said["base"]["text"], said["adapter"]["text"]) == (row["base_output"], row["adapter_output"])
        assert said["truth"] == row["ground_truth"]
        marked = said["adapter"]["pieces"]
        assert "".join(text for kind, text in marked if kind != "del") == row["adapter_output"]
        assert "".join(text for kind, text in marked if kind != "ins") == row["ground_truth"]
        by_text = ask("POST", "/api/ask", {"row": {"input": row["input"]}})[1]
        assert by_text["adapter"]["text"] == row["adapter_output"]


def test_a_row_of_a_verdict_on_some_of_the_held_out_rows_is_asked_with_its_own_prompt(run_once):
    variables, folder = run_once(FINISHED | {"EVAL_FRACTION": 0.5, "TEST_FRACTION": 0.5, "EVAL_MAX_ROWS": 7, "SEED": 3}, 0)
    site = site_of(variables, folder)
    rows = read_csv(folder / "output" / "r" / "evaluation.csv")
    assert len(rows) == 7
    tokenizer = site.page.asking.adapter.tokenizer
    asked = [site.page._asked({"held_out": number}) for number in range(len(rows))]
    assert asked == [(tokenizer(f"Input: {row['input']}").input_ids, row["ground_truth"]) for row in rows]
    site.tables.close()


def test_an_input_of_ones_own_is_marked_where_the_other_side_says_something_else(ask):
    said = ask("POST", "/api/ask", {"row": {"input": ASKED}})[1]
    assert said["truth"] is None
    for side in ("base", "adapter"):
        assert "".join(text for _, text in said[side]["pieces"]) == said[side]["text"]
        assert {kind for kind, _ in said[side]["pieces"]} <= {"same", "ins"}
        assert 0 < said[side]["confidence"] < 1
    assert not math.isclose(said["base"]["confidence"], said["adapter"]["confidence"])


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"held_out": -1},
        {"held_out": 8},
        {"held_out": "0"},
        {"held_out": True},
        {"row": {}},
        {"row": {"input": 3}},
        {"row": "a"},
    ],
)
def test_what_is_no_row_is_refused(ask, body):
    assert ask("POST", "/api/ask", body)[0] == 400


def test_rows_are_found_by_any_of_their_texts_and_come_in_parts(ask, rows, monkeypatch):
    monkeypatch.setattr("job.serving.page.ROWS_AT_ONCE", 3)
    status, said = ask("GET", "/api/rows?order=all&find=")
    assert (status, said["found"], len(said["rows"])) == (200, len(rows), 3)
    assert ask("GET", "/api/rows?order=all&from=3")[1]["rows"][0]["input"] == rows[3]["input"]
    wanted = [number for number, row in enumerate(rows) if rows[2]["ground_truth"] in "\n".join(row.values())]
    found = ask("GET", f"/api/rows?order=all&find={rows[2]['ground_truth'].upper()}")[1]
    assert [row["number"] for row in found["rows"]] == wanted[:3]
    assert ask("GET", "/api/rows?order=best")[0] == ask("GET", "/api/rows?order=all&from=x")[0] == 400


def test_rows_that_got_worse_come_first_by_how_much(site, monkeypatch):
    monkeypatch.setitem(site.page.__dict__, "gains", [0.0, -0.5, 1.0, -1.0, 0.2] + [0.0] * (len(site.page.rows) - 5))
    assert site.page._ordered("worse") == [3, 1]
    assert site.page._ordered("better") == [2, 4]
    assert site.page._ordered("all") == list(range(len(site.page.rows)))


def test_long_texts_are_not_compared():
    assert pieces("a b", "a c") == [("same", "a "), ("del", "c"), ("ins", "b")]
    long = "word " * 1000
    assert pieces(long, "x") == [("same", long)]
