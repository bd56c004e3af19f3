"""A table that is uploaded comes back as `predict` gives it back; what went wrong is told, and nothing is left behind."""

import json
from io import BytesIO

import pytest
from openpyxl import Workbook, load_workbook

from job.serving import tables
from tests.serving.conftest import body_of

TABLE = b"input,n\r\nthe 3 of June,1\r\n,2\r\n5,3\r\n"


def upload(site, request_for, name, content):
    """The lines that come while the table is answered."""
    reply = site.answer(request_for("POST", f"/api/tables?name={name}", content))
    lines = [json.loads(line) for line in body_of(reply).splitlines()]
    reply.finish()
    return lines


def test_a_file_comes_back_as_predict_gives_it_back(site, request_for, finished_run, run_job, tmp_path, monkeypatch):
    monkeypatch.setattr(site.tables, "batch_size", 1)
    (tmp_path / "new.csv").write_bytes(TABLE)
    code, said = run_job("predict", "new.csv", "answers.csv", **finished_run[0] | {"PREDICT_CONFIDENCE": "true"})
    assert code == 0, said
    *progress, last = upload(site, request_for, "new.csv", TABLE)
    assert progress == [{"done": done, "rows": 2} for done in (0, 1, 2)]
    assert (last["name"], last["columns"]) == ("new.csv", ["output", "confidence"])
    reply = site.answer(request_for("GET", last["fetch"]))
    found, wanted = reply.content.decode().splitlines(), (tmp_path / "answers.csv").read_text().splitlines()
    assert [line.rpartition(",")[0] for line in found] == [line.rpartition(",")[0] for line in wanted]
    assert reply.headers["Content-Disposition"] == "attachment; filename*=UTF-8''new.csv"


def test_a_workbook_stays_one(site, request_for):
    book = Workbook()
    for row in (["input", "b"], ["the 3 of June", "=1+2"]):
        book.active.append(row)
    book.save(content := BytesIO())
    last = upload(site, request_for, "Anfrage Müller.xlsx", content.getvalue())[-1]
    made = load_workbook(BytesIO(site.answer(request_for("GET", last["fetch"])).content)).active
    assert [cell.value for cell in made[1]] == ["input", "b", "output", "confidence"]
    assert made["B2"].value == "=1+2"
    assert last["name"] == "Anfrage Müller.xlsx"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"inpt\nx\n", 'FILE=a.csv: no column "input"; found "inpt"'),
        ("a.docx", b"PK", "a Word document"),
        ("../../../a.csv", b"", "FILE=a.csv: a.csv is empty"),
        ("", b"input\n", "FILE=table.csv"),
        ("a.xlsx", b"no workbook", "FILE=a.xlsx"),
    ],
)
def test_what_cannot_be_answered_is_told_without_where_it_lay_and_leaves_nothing(site, ask, name, content, said):
    before = sorted(site.tables.folder.iterdir())
    status, found = ask("POST", f"/api/tables?name={name}", content)
    assert status == 400
    assert said in found["error"]["message"]
    assert str(site.tables.folder) not in found["error"]["message"]
    assert sorted(site.tables.folder.iterdir()) == before


def test_no_more_tables_than_may_are_answered_at_once_and_one_that_ends_makes_room(site, request_for, ask):
    replies = [site.answer(request_for("POST", "/api/tables?name=a.csv", TABLE)) for _ in range(tables.AT_ONCE)]
    assert ask("POST", "/api/tables?name=a.csv", TABLE)[0] == 429
    replies.pop().finish()  # a client that went away before the first line
    assert upload(site, request_for, "a.csv", TABLE)[-1]["name"] == "a.csv"
    for reply in replies:
        reply.finish()


def test_old_tables_make_room_for_new_ones(site, request_for, ask, monkeypatch):
    monkeypatch.setattr(tables, "KEPT", 1)
    first, second = (upload(site, request_for, "a.csv", TABLE)[-1]["fetch"] for _ in range(2))
    assert ask("GET", first)[0] == 404
    assert site.answer(request_for("GET", second)).status == 200
    assert ask("GET", "/api/tables/../../etc/passwd")[0] == 404


def test_a_client_that_goes_away_ends_its_table(site, request_for, monkeypatch):
    monkeypatch.setattr("job.serving.asking.LOOK_EVERY_S", 0)
    reply = site.answer(request_for("POST", "/api/tables?name=a.csv", TABLE, is_gone=True))
    with pytest.raises(ConnectionError):
        body_of(reply)
    before = len(list(site.tables.folder.iterdir()))
    reply.finish()
    assert len(list(site.tables.folder.iterdir())) == before - 1
