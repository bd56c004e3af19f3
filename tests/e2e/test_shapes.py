"""Data in the shapes that people have it in is trained on, and asked in the same words, without a variable set."""

import csv
import json
from pathlib import Path

import pytest

RUN = {"RUN_NAME": "r", "MAX_STEPS": 2, "EVAL_STRATEGY": "no", "METRICS": "exact_match", "MAX_NEW_TOKENS": 4}
ALPACA = [{"instruction": f"Say {number}.", "input": "" if number % 2 else "loud", "output": number} for number in range(12)]
SQUAD = [
    {"question": f"Who is {number}?", "context": "Ann.", "answers": {"text": ["Ann", "she"], "answer_start": [0, 0]}}
    for number in range(12)
]
ALPACA_PROMPT = "{{ instruction }}{% if input %} Input: {{ input }}{% endif %}"


def write(name: str, rows: list[dict]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def shown_inputs() -> list[str]:
    """The inputs in evaluation.csv."""
    with Path("output/r/evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        return [row["input"] for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("rows", "question", "template", "input_column"),
    [
        (ALPACA, {"instruction": "Say 7.", "input": None}, ALPACA_PROMPT, "instruction"),
        (SQUAD, {"question": "Who?", "context": "Bob."}, "question: {{ question }} context: {{ context }}", "question"),
    ],
    ids=["alpaca", "squad"],
)
def test_a_shape_is_trained_and_asked_in_the_same_words(run_job, t5_folder, rows, question, template, input_column):
    code, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write("a.jsonl", rows), **RUN)
    assert code == 0, said
    record = json.loads(Path("output/r/adapter/job.json").read_text())
    assert (record["prompt_template"], record["input_column"]) == (template, input_column)
    assert all(str(text).startswith(("Say", "question: Who")) for text in shown_inputs())
    code, said = run_job(
        "predict", write("new.jsonl", [question]), "answers.jsonl", MODEL_ID=t5_folder, TRAIN_DATA="a.jsonl", **RUN
    )
    assert code == 0, said
    assert json.loads(Path("answers.jsonl").read_text()).keys() >= {*question, "output"}


def test_rows_without_an_answer_are_left_out_when_that_is_asked_for(run_job, t5_folder):
    rows = [row | {"output": None} if number == 3 else row for number, row in enumerate(ALPACA)]
    asked = {"MODEL_ID": t5_folder, "TRAIN_DATA": write("a.jsonl", [*rows, {}])} | RUN
    code, said = run_job("prepare", **asked)
    assert code == 65
    assert 'row 4, column "output": the cell is empty' in said
    code, said = run_job("prepare", EMPTY_ROWS="drop", **asked)
    assert code == 0, said
    assert "blank rows are skipped (1): row 13" in said
    assert 'EMPTY_ROWS=drop leaves out 1 rows whose "output" is empty: row 4' in said


def reply(role: str, text: str, *replies: dict) -> dict:
    """A message of a tree."""
    return {"message_id": text, "role": role, "text": text, "replies": list(replies)}


def test_trees_of_replies_and_messages_as_prompts_are_trained_as_chats(run_job, llama_folder):
    answers = [reply("assistant", f"a{number}") for number in range(2)]
    trees = [{"prompt": reply("prompter", f"q{number}", *answers)} for number in range(12)]
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    pairs = [{"prompt": [turns[0] | {"content": f"q{number}"}], "completion": [turns[1]]} for number in range(12)]
    for rows, kind in ((trees, "tree of replies"), (pairs, "prompt and completion as messages")):
        code, said = run_job(MODEL_ID=llama_folder, TRAIN_DATA=write("a.jsonl", rows), OVERWRITE="true", **RUN)
        assert code == 0, said
        assert f"TRAIN_DATA=a.jsonl: {kind}, from " in said
    code, said = run_job(
        "predict", write("new.jsonl", [{"prompt": [turns[0]]}]), "b.jsonl", MODEL_ID=llama_folder, TRAIN_DATA="a.jsonl", **RUN
    )
    assert code == 0, said
    assert "output" in json.loads(Path("b.jsonl").read_text())
