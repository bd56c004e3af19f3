"""A model that lacks braces, quotes and line breaks learns to answer in JSON: ADD_TOKENS, from the doctor to the merged model."""

import json
from pathlib import Path

import pytest
from openpyxl import load_workbook
from peft import AutoPeftModelForSeq2SeqLM
from tokenizers import Tokenizer
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

from job.evaluation.evaluate import read_csv
from job.system.signals import stop_signals
from tests.conftest import DEMO_BASE, do_after_step

pytestmark = pytest.mark.slow
LACKING = '{}"[]<>|^~'
VARIABLES = {
    "TRAIN_DATA": "json.jsonl", "PROMPT_TEMPLATE": "year: {input}", "METRICS": "exact_match", "RUN_NAME": "r",
    "EVAL_STRATEGY": "no",
    "SAVE_STRATEGY": "no", "LEARNING_RATE": 3e-3, "EFFECTIVE_BATCH_SIZE": 16, "REPORT_TO": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The embedded base, whose characters LACKING are sentinels: like T5's, embedded, and never seen in its training."""
    folder = tmp_path_factory.mktemp("base")
    AutoModelForSeq2SeqLM.from_pretrained(DEMO_BASE).save_pretrained(folder)
    spec = json.loads(AutoTokenizer.from_pretrained(DEMO_BASE).backend_tokenizer.to_str())
    names = {character: f"<extra_id_{number}>" for number, character in enumerate(LACKING)}
    spec["model"]["vocab"] = [[names.get(piece, piece), score] for piece, score in spec["model"]["vocab"]]
    places = {piece: index for index, (piece, _) in enumerate(spec["model"]["vocab"])}
    spec["added_tokens"] += [spec["added_tokens"][0] | {"id": places[name], "content": name} for name in names.values()]
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(spec)), **special).save_pretrained(folder)
    return folder


@pytest.fixture
def variables(base) -> dict:
    """Of a run that answers which year an appointment is in, in indented JSON."""
    cells = load_workbook(DEMO_BASE.parent / "appointments.xlsx").active.iter_rows(min_row=2, max_row=701, values_only=True)
    rows = [{"input": text, "output_ground_truth": f'{{\n  "year": "{answer[:4]}"\n}}'} for text, answer in cells]
    Path("json.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return VARIABLES | {"MODEL_ID": base}


def exact(folder: Path) -> float:
    rows = read_csv(folder / "evaluation.csv")
    return sum(row["adapter_output"] == row["ground_truth"] for row in rows) / len(rows)


def test_answers_that_the_tokenizer_cannot_write_stop_the_run_and_are_told_by_doctor_and_prepare(run_job, variables, capsys):
    for command in ("doctor", "prepare", "run"):
        code, said = run_job(command, **variables)
        assert code == 65
        last = said.splitlines()[-1]
        assert "TRAIN_DATA: 560 of 560 answers (100.0%) hold what the model's tokenizer lacks" in last
        listed = 'line break, two spaces in a row, \'"\', "{", "}"; the first is row '
        assert f"and the model can never write: {listed}" in last
        assert "MAX_UNKNOWN_TARGETS allows 1.0%. Set ADD_TOKENS=auto" in last
    assert "FAILED  data" in capsys.readouterr().out


def test_without_added_tokens_no_answer_is_right_and_the_report_says_why(run_job, variables):
    code, said = run_job("run", **variables, MAX_UNKNOWN_TARGETS=1, MAX_STEPS=20)
    assert code == 0
    warned = [line for line in said.splitlines() if "hold what the model's tokenizer lacks" in line]
    assert len(warned) == 1
    assert warned[0].startswith("560 of 560 training and 140 of 140 held-out answers")
    assert "560 of 560 training and 140 of 140 held-out answers" in Path("output/r/report.html").read_text()
    assert exact(Path("output/r")) == 0


def test_with_added_tokens_answers_are_right_in_the_run_its_merged_model_and_predict(run_job, variables, capsys):
    asked = variables | {"ADD_TOKENS": "auto", "MAX_STEPS": 120}
    assert run_job("doctor", **asked)[0] == 0
    assert "Added to the tokenizer in the places of tokens that nobody uses: line break" in capsys.readouterr().out
    code, said = run_job("run", **asked)
    assert code == 0
    assert "The base model is asked with the same tokenizer, but has never learned them." in said
    assert exact(Path("output/r")) > 0.9
    for name in ("report.html", "adapter/README.md"):
        assert "Added to the tokenizer" in (Path("output/r") / name).read_text()
    assert run_job("merge", **asked)[0] == 0
    Path("new.jsonl").write_text(json.dumps({"input": "Lunch at 8 am on March 3, 2030?"}) + "\n")
    code, said = run_job("predict", "new.jsonl", "out.jsonl", **asked)
    assert code == 0
    assert "tokenizer lacks" not in said
    wanted = '{\n  "year": "2030"\n}'
    assert json.loads(Path("out.jsonl").read_text())["output"] == wanted
    for folder, auto in (("adapter", AutoPeftModelForSeq2SeqLM), ("merged", AutoModelForSeq2SeqLM)):
        place = Path("output/r") / folder
        model, tokenizer = auto.from_pretrained(place), AutoTokenizer.from_pretrained(place)
        inputs = tokenizer("year: Lunch at 8 am on March 3, 2030?", return_tensors="pt")
        assert tokenizer.decode(model.generate(**inputs, max_new_tokens=30)[0], skip_special_tokens=True) == wanted


def test_a_run_is_resumed_with_its_added_tokens_and_with_no_others(run_job, variables, monkeypatch):
    few = variables | {"ADD_TOKENS": "auto", "MAX_STEPS": 4, "SAVE_STRATEGY": "steps", "SAVE_STEPS": 2}
    monkeypatch.setattr(stop_signals, "received", None)
    do_after_step(monkeypatch, 3, lambda **_: setattr(stop_signals, "received", "SIGTERM"))
    assert run_job("run", **few)[0] == 143
    monkeypatch.setattr(stop_signals, "received", None)
    code, said = run_job("run", **few | {"ADD_TOKENS": "none"})
    assert code == 78
    assert "ADD_TOKENS was auto and is none" in said
    assert run_job("run", **few)[0] == 0
    assert json.loads(Path("output/r/data/summary.json").read_text())["unknown"]["added"] == ["\n", "  ", '"', "{", "}"]
    assert "{" in AutoTokenizer.from_pretrained("output/r/adapter").get_vocab()
