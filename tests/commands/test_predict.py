"""Answers to a large file: a run that is cut off goes on where it was; how sure the model is, as the library tells it."""

import csv
import errno
import json
import shutil
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from openpyxl import Workbook, load_workbook
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSeq2SeqLM
from transformers import AutoTokenizer

from job.commands import predict
from job.data.answers import AnswerFile
from job.errors import OutputError
from job.pipeline import asked_table, predictor
from job.tables.formulas import unmark

FEW = {"MAX_STEPS": 4, "MAX_NEW_TOKENS": 6, "EVAL_STRATEGY": "no", "RUN_NAME": "r", "METRICS": "exact_match"}
ASKED = [f"the {number} of June" + " please" * (number % 5) for number in range(1, 31)]
PARTIAL = Path("answers.jsonl.partial.jsonl")


@pytest.fixture(scope="module")
def runs(run_once, t5_folder, llama_folder):
    """A finished run of each model, made when it is first asked for: variables, and the folder that it was started in."""
    folders = {"t5_folder": t5_folder, "llama_folder": llama_folder}
    return cache(lambda kind: run_once({"MODEL_ID": folders[kind]} | FEW, 0))


@pytest.fixture
def trained(runs, write_rows, tmp_path):
    """Variables of a finished run of the model that the test names, in its own folder, and rows to ask in new.jsonl."""

    def train(kind: str) -> dict:
        variables, folder = runs(kind)
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        write_rows([{"input": text, "number": number} for number, text in enumerate(ASKED)], "new.jsonl")
        return variables

    return train


def answers(path: str = "answers.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_what_was_answered_before_is_not_answered_again(trained, run_job, monkeypatch):
    variables = trained("t5_folder")
    assert run_job("predict", "new.jsonl", "whole.jsonl", **variables)[0] == 0
    monkeypatch.setattr(predict, "ROWS_BETWEEN_WRITES", 8)
    real, calls = predictor.generate_ids, []

    def cut_off(model, tokenizer, prompts, decoding):
        calls.append(len(prompts))
        if len(calls) == 3:
            raise OutputError("the machine is gone")
        return real(model, tokenizer, prompts, decoding)

    monkeypatch.setattr(predictor, "generate_ids", cut_off)
    assert run_job("predict", "new.jsonl", "answers.jsonl", **variables)[0] == 73
    assert len(PARTIAL.read_text().splitlines()) == 1 + 16
    with PARTIAL.open("a") as file:
        file.write('{"row": 3, "outp')  # as after a power cut
    code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
    assert code == 0, said
    assert "resuming with 16 rows answered before" in said
    assert calls == [8, 8, 8, 8, 6]
    assert answers() == answers("whole.jsonl")
    assert [row["number"] for row in answers()] == list(range(30))
    assert not PARTIAL.exists()


def test_answers_to_other_rows_are_not_taken(trained, run_job, write_rows):
    variables = trained("t5_folder")
    assert run_job("predict", "new.jsonl", "answers.jsonl", **variables)[0] == 0
    PARTIAL.write_text('{"fingerprint": "of something else"}\n{"row": 0, "output": "wrong"}\n')
    assert run_job("predict", "new.jsonl", "answers.jsonl", **variables)[0] == 0
    assert answers()[0]["output"] != "wrong"


@pytest.mark.parametrize(("kind", "auto"), [("t5_folder", AutoPeftModelForSeq2SeqLM), ("llama_folder", AutoPeftModelForCausalLM)])
def test_the_confidence_is_the_mean_log_probability_of_the_answers_tokens(kind, auto, trained, run_job):
    variables = trained(kind)
    code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables | {"PREDICT_CONFIDENCE": "true"})
    assert code == 0, said
    model, tokenizer = auto.from_pretrained("output/r/adapter").eval(), AutoTokenizer.from_pretrained("output/r/adapter")
    for row in answers()[:4]:
        prompt = tokenizer(f"Input: {row['input']}" + ("" if "t5" in kind else "\n"), return_tensors="pt").input_ids
        if "llama" in kind:
            prompt = prompt[:, :-1]  # without the end marker
        made = model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False, output_scores=True,
            return_dict_in_generate=True,
        )  # fmt: skip
        expected = model.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)
        assert row["confidence"] == pytest.approx(expected[0].mean().item(), abs=1e-5)
        assert row["confidence"] < 0


def test_a_place_that_cannot_be_written_is_told_before_the_first_answer(trained, run_job, monkeypatch):
    variables = trained("t5_folder")
    monkeypatch.setattr(predictor, "generate_ids", None)
    code, said = run_job("predict", "new.jsonl", "answers.docx", **variables)
    assert code == 73
    assert "cannot write .docx" in said


def test_inputs_are_cut_where_training_cut_and_never_in_silence(trained, run_job, write_rows):
    variables = trained("t5_folder")
    code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
    assert code == 0
    assert "are truncated" not in said, "longer than any training row, but not than the model takes"
    tight = variables | {"RUN_NAME": "tight", "MAX_SOURCE_LENGTH": 19, "MAX_TRUNCATED_TARGETS": 1}
    assert run_job(**tight)[0] == 0
    code, said = run_job("predict", "new.jsonl", "tight.jsonl", **tight)
    assert code == 0
    longer = sum(len(AutoTokenizer.from_pretrained("output/r/adapter")(f"Input: {text}").input_ids) > 19 for text in ASKED)
    assert 0 < longer < 30
    assert f"{longer} of 30 inputs are longer than 19 tokens and are truncated" in said


def test_characters_that_the_tokenizer_lacks_are_told_of_new_rows_too(trained, run_job, write_rows):
    variables = trained("t5_folder")
    write_rows([{"input": "the 3 of May"}, {"input": "北 and\n12"}, {"input": "the  4"}], "odd.jsonl")
    code, said = run_job("predict", "odd.jsonl", **variables)
    assert code == 0
    assert '1 of 3 inputs hold what the model\'s tokenizer lacks: line break, "北"; the first is row 2.' in said
    assert "tokenizer lacks" not in run_job("predict", "new.jsonl", **variables)[1]


def test_a_text_file_gets_the_answers_alone_even_with_confidences(trained, run_job):
    variables = trained("t5_folder")
    assert run_job("predict", "new.jsonl", "answers.txt", **variables | {"PREDICT_CONFIDENCE": "true"})[0] == 0
    assert len(Path("answers.txt").read_text().splitlines()) == 30
    with pytest.raises(ValueError, match="could not convert"):
        float(Path("answers.txt").read_text().splitlines()[0])


def test_a_limit_that_a_person_set_is_the_limit_even_if_no_training_row_was_as_long(trained, run_job):
    variables = trained("t5_folder") | {"RUN_NAME": "wide", "MAX_SOURCE_LENGTH": 400}
    assert run_job(**variables)[0] == 0
    code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
    assert code == 0
    assert "are truncated" not in said


def test_a_causal_models_answers_are_as_long_as_answers_not_as_rows(trained):
    trained("llama_folder")
    assert json.loads(Path("output/r/adapter/job.json").read_text())["max_new_tokens"] == 6
    from job.config.scoring import make_scoring
    from job.config.settings import Settings
    from job.data.prepared import load_prepared

    prepared = load_prepared(Path("output/r/data"))
    longest = max(sum(label >= 0 for label in labels) for labels in prepared.evaluation["labels"])
    assert make_scoring(Settings(), prepared).decoding.max_new_tokens == longest + longest // 4 + 1
    assert longest < min(map(len, prepared.evaluation["labels"]))


def test_chats_are_asked_in_the_template_they_were_taught_in(run_job, llama_folder, write_rows):
    chats = [
        {"messages": [{"role": "user", "content": f"{number} May"}, {"role": "assistant", "content": f"05-{number:02d}"}]}
        for number in range(1, 31)
    ]
    variables = {"MODEL_ID": llama_folder, "TRAIN_DATA": write_rows(chats, "chats.jsonl")} | FEW
    code, said = run_job(**variables)
    assert code == 0, said
    write_rows([{"messages": chat["messages"][:1]} for chat in chats[:3]], "open.jsonl")
    write_rows([{"input": chat["messages"][0]["content"]} for chat in chats[:3]], "texts.jsonl")
    for name in ("open", "texts"):
        code, said = run_job("predict", f"{name}.jsonl", f"{name}-answers.jsonl", **variables)
        assert code == 0, said
    model, tokenizer = (
        AutoPeftModelForCausalLM.from_pretrained("output/r/adapter"),
        AutoTokenizer.from_pretrained("output/r/adapter"),
    )
    for row, text in zip(answers("open-answers.jsonl"), answers("texts-answers.jsonl"), strict=True):
        prompt = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True)
        made = model.generate(**prompt, max_new_tokens=6, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        assert row["output"] == text["output"] == tokenizer.decode(made, skip_special_tokens=True).strip()


def test_texts_are_asked_after_the_system_message_that_all_chats_of_the_training_began_with(run_job, llama_folder, write_rows):
    system = {"role": "system", "content": "be brief"}
    questions = [{"role": "user", "content": f"{number} May"} for number in range(1, 31)]
    chats = [{"messages": [system, turn, {"role": "assistant", "content": turn["content"][:2]}]} for turn in questions]
    variables = {"MODEL_ID": llama_folder, "TRAIN_DATA": write_rows(chats, "chats.jsonl"), "PREDICT_CONFIDENCE": "true"} | FEW
    assert run_job(**variables)[0] == 0
    tables = {
        "open": [{"messages": [system, turn]} for turn in questions[:3]],
        "texts": [{"input": turn["content"]} for turn in questions[:3]],
        "bare": [{"messages": [turn]} for turn in questions[:3]],
    }
    said = {}
    for name, rows in tables.items():
        write_rows(rows, f"{name}.jsonl")
        code, said[name] = run_job("predict", f"{name}.jsonl", f"{name}-answers.jsonl", **variables)
        assert code == 0, said[name]
    found = {name: [row["confidence"] for row in answers(f"{name}-answers.jsonl")] for name in tables}
    assert found["texts"] == found["open"] != found["bare"]
    warning = "3 of 3 chats do not begin with the system message and the tools that all chats of the training began with"
    assert [warning in text for text in said.values()] == [False, False, True]
    assert (
        f"apply_chat_template({[system, {'role': 'user', 'content': '...'}]!r}, add"
        in Path("output/r/adapter/README.md").read_text()
    )


def test_answers_that_no_longer_hold_are_thrown_away_aloud(trained, run_job):
    variables = trained("t5_folder")
    PARTIAL.write_text('{"fingerprint": "of something else"}\n{"row": 0, "output": "wrong"}\n')
    code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
    assert code == 0
    assert "discarding 1 answers of other rows, settings or weights" in said


def test_a_persons_own_column_stays_and_so_does_the_file_that_was_asked(trained, run_job, write_rows):
    variables = trained("t5_folder")
    write_rows([{"input": "the 3 of June", "output": "my note"}], "notes.jsonl")
    assert run_job("predict", "notes.jsonl", "answers.jsonl", **variables)[0] == 0
    assert answers()[0]["output"] == "my note"
    assert run_job("predict", "notes.jsonl", "answers.txt", **variables)[0] == 0
    assert Path("answers.txt").read_text().strip() == " ".join(answers()[0]["output_2"].split())
    code, said = run_job("predict", "notes.jsonl", "notes.jsonl", **variables)
    assert code == 73
    assert "would overwrite the questions" in said


def test_a_workbook_holds_texts_as_texts(trained, run_job, write_rows):
    variables = trained("t5_folder")
    write_rows([{"input": '=HYPERLINK("http://x")', "note": "a\x0bb" + "c" * 40_000, "number": 3}], "odd.jsonl")
    code, said = run_job("predict", "odd.jsonl", "odd.xlsx", **variables)
    assert code == 0, said
    assert "1 cells lost control characters or what is beyond 32767 letters" in said
    cells = next(load_workbook("odd.xlsx").active.iter_rows(min_row=2))
    assert (cells[0].value, cells[0].data_type) == ('=HYPERLINK("http://x")', "s")
    assert cells[1].value == "ab" + "c" * 32_765
    assert cells[2].value == "3"


def test_another_column_may_be_asked(trained, run_job, write_rows):
    variables = trained("t5_folder")
    write_rows([{"Text": "the 3 of June"}], "other.jsonl")
    assert run_job("predict", "other.jsonl", "a.jsonl", **variables)[0] == 65
    assert run_job("predict", "other.jsonl", "a.jsonl", **variables | {"INPUT_COLUMN": "Text"})[0] == 0


def typed_workbook(name: str) -> None:
    book = Workbook()
    sheet = book.active
    for row in (
        ["input", "when", "sum", "ok"],
        [3, datetime(2026, 11, 26), "=1+2", True],
        [None, None, 0.5, False],
        [],
        ["the 5 of June", None, "x", None],
    ):
        sheet.append(row)
    sheet.column_dimensions["A"].width = 44
    book.create_sheet("Other").append(["keep", "me"])
    book.save(name)


def test_a_workbook_comes_back_with_answers_and_all_else_as_it_was(trained, run_job):
    variables = trained("t5_folder")
    typed_workbook("typed.xlsx")
    code, said = run_job("predict", "typed.xlsx", **variables)
    assert code == 0, said
    assert 'row has no "input" and stays unanswered: row 3' in said
    assert "answered 2 rows: output/r/predictions/typed.xlsx" in said
    old, new = load_workbook("typed.xlsx"), load_workbook("output/r/predictions/typed.xlsx")
    assert new.sheetnames == ["Sheet", "Other"]
    for row, other in zip(old["Sheet"].iter_rows(max_row=5, max_col=4), new["Sheet"].iter_rows(max_row=5, max_col=4), strict=True):
        assert [(cell.value, cell.number_format) for cell in row] == [(cell.value, cell.number_format) for cell in other]
    header, first, second, blank, last = (cell.value for cell in new["Sheet"]["E"])
    assert (header, second, blank) == ("output", None, None)
    assert first
    assert last
    assert new["Sheet"].column_dimensions["A"].width == 44
    assert new["Other"]["A1"].value == "keep"


def test_a_number_is_asked_as_the_text_that_it_was_trained_as(trained, run_job):
    variables = trained("t5_folder")
    typed_workbook("typed.xlsx")
    Path("text.csv").write_text("input\n3\n")
    Path("number.jsonl").write_text('{"input": 3}\n')
    for name in ("typed.xlsx", "text.csv", "number.jsonl"):
        assert run_job("predict", name, f"{name}.answers.jsonl" if name == "typed.xlsx" else f"out/{name}", **variables)[0] == 0
    answer = answers("typed.xlsx.answers.jsonl")[0]["output"]
    assert answers("out/number.jsonl")[0] == {"input": 3, "output": answer}
    with Path("out/text.csv").open(newline="") as file:
        assert unmark(next(csv.DictReader(file))["output"]) == answer


def test_a_semicolon_file_of_excel_comes_back_as_one(trained, run_job):
    variables = trained("t5_folder")
    content = "input;Kunde;Preis\r\nthe 3 of June;Müller und Söhne;1,50\r\n;Größe;2,50\r\n".encode("cp1252")
    Path("german.csv").write_bytes(content)
    assert run_job("predict", "german.csv", "b.csv", **variables)[0] == 0
    made, lines = Path("b.csv").read_bytes().splitlines(), content.splitlines()
    assert made[0] == lines[0] + b";output"
    assert made[1].startswith(lines[1] + b";")
    assert made[2] == lines[2] + b";"


def test_two_at_once_on_one_file_are_told(trained, run_job):
    variables = trained("t5_folder")
    with AnswerFile(Path("answers.jsonl")):
        code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
    assert code == 73
    assert "answers.jsonl: another predict is writing it. Wait for it, or name another file for these." in said
    assert run_job("predict", "new.jsonl", "answers.jsonl", **variables)[0] == 0


def test_a_file_that_changes_meanwhile_is_told_and_its_answers_are_kept(trained, run_job, monkeypatch):
    variables = trained("t5_folder")
    real = predictor.generate_ids

    def change(*arguments):
        Path("new.jsonl").touch()
        return real(*arguments)

    monkeypatch.setattr(predictor, "generate_ids", change)
    code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
    assert code == 65
    assert "it changed while its rows were answered" in said
    assert len(PARTIAL.read_text().splitlines()) == 31
    monkeypatch.setattr(predictor, "generate_ids", None)
    code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
    assert code == 0, said
    assert "resuming with 30 rows answered before" in said
    assert len(answers()) == 30


@pytest.mark.parametrize("where", ["table", "answers"])
def test_a_full_disk_is_told_and_what_was_answered_is_resumed(trained, run_job, monkeypatch, where):
    variables = trained("t5_folder")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "table":
            patch.setattr(asked_table, "give_back", full)
        else:
            patch.setattr(predict.AnswerFile, "add", full)
        code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
        assert code == 74, said
        assert not Path("answers.jsonl").exists()
    code, said = run_job("predict", "new.jsonl", "answers.jsonl", **variables)
    assert code == 0, said
    assert f"resuming with {30 if where == 'table' else 0} rows" in said
    assert len(answers()) == 30


def test_a_folder_comes_back_as_a_folder(trained, run_job):
    variables = trained("t5_folder")
    Path("in").mkdir()
    Path("in/x.csv").write_text("input\nthe 3 of June\n")
    Path("in/y.txt").write_text("the 4 of June\n\nthe 5 of June\n")
    code, said = run_job("predict", "in", **variables)
    assert code == 0, said
    assert Path("output/r/predictions/in/x.csv").read_text().startswith("input,output\nthe 3 of June,")
    first, blank, last = Path("output/r/predictions/in/y.txt").read_text().splitlines()
    assert first
    assert not blank
    assert last


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".txt"])
def test_a_table_of_any_types_goes_to_any_format(trained, run_job, suffix, monkeypatch):
    variables = trained("t5_folder")
    monkeypatch.setattr(predictor.Predictor, "load", lambda self: None)
    monkeypatch.setattr(predictor, "generate_ids", lambda model, tokenizer, prompts, decoding: [[5, 1]] * len(prompts))
    table = pa.table(
        {
            "input": ["a", None, "c"],
            "when": [date(2026, 11, 26), None, None],
            "nested": [[{"a": 1.5}], [], None],
            "bytes": [b"\xff", b"", None],
            "price": [Decimal("1.50"), None, None],
        }
    )
    pq.write_table(table, "typed.parquet")
    code, said = run_job("predict", "typed.parquet", f"answers{suffix}", **variables)
    assert code == 0, said
    assert Path(f"answers{suffix}").stat().st_size > 0


@pytest.mark.parametrize("name", ["new.xlsx", "new.csv", "new.jsonl", "new.txt"])
def test_predict_answers_in_the_format_it_was_asked_in(finished_run, run_job, write_rows, name):
    variables, _ = finished_run
    asked = [f"the {number} of June" for number in range(1, 4)]
    if name.endswith(".xlsx"):
        book = Workbook()
        for row in ["input", *asked]:
            book.active.append([row])
        book.save(name)
    elif name.endswith(".txt"):
        Path(name).write_text("\n".join(asked) + "\n")
    else:
        write_rows([{"input": text} for text in asked], name)
    code, said = run_job("predict", name, "answers/" + name, **variables)
    assert code == 0, said
    model, tokenizer = (
        AutoPeftModelForSeq2SeqLM.from_pretrained("output/r/adapter"),
        AutoTokenizer.from_pretrained("output/r/adapter"),
    )
    wanted = []
    for text in asked:
        tokens = model.generate(**tokenizer(f"Input: {text}", return_tensors="pt"), max_new_tokens=8, do_sample=False)
        wanted.append(tokenizer.decode(tokens[0], skip_special_tokens=True).strip())
    assert _answers(Path("answers") / name) == wanted


def _answers(path: Path) -> list[str]:
    if path.suffix == ".xlsx":
        rows = list(load_workbook(path).active.iter_rows(values_only=True))
        return [row[rows[0].index("output")] or "" for row in rows[1:]]
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [row["output"] for row in csv.DictReader(file)]
    if path.suffix == ".jsonl":
        return [json.loads(line)["output"] for line in path.read_text().splitlines()]
    return path.read_text().splitlines()
