"""Whole runs of models that are none of ours: what the answer is does not hang on how the job asks."""

import json
import random
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from job.evaluation.evaluate import read_csv
from job.model.positions import read_positions
from tests.zoo.families import build

pytestmark = pytest.mark.slow

FEW_STEPS = {
    "MODEL_ID": "base", "TRAIN_DATA": "rows.jsonl", "RUN_NAME": "r", "MAX_STEPS": 2, "EVAL_STRATEGY": "no", "SAVE_STRATEGY": "no",
    "METRICS": "exact_match", "REPORT_TO": "none",
}  # fmt: skip
WORDS = ["red", "blue", "green", "old", "new", "north", "paper", "three"]


def write(name: str, pairs: list[tuple[str, str]]) -> None:
    """Writes inputs and right answers to a file of that name."""
    rows = [{"input": question, "output_ground_truth": answer} for question, answer in pairs]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def texts(count: int, words: int, seed: int = 0) -> list[str]:
    """Texts of so many words, each with its number."""
    chosen = random.Random(seed)
    return [" ".join([*chosen.choices(WORDS, k=words), str(number)]) for number in range(count)]


def read_answers() -> list[str]:
    return [row["adapter_output"] for row in read_csv(Path("output/r/evaluation.csv"))]


@pytest.mark.parametrize("family", ["bart", "t5gemma"])
def test_an_answer_does_not_hang_on_who_shares_its_batch(run_job, tmp_path, family):
    build(family, tmp_path / "base")
    write("rows.jsonl", [(text, "red") for length in (2, 9, 30) for text in texts(20, length)])
    assert run_job(**FEW_STEPS, PER_DEVICE_EVAL_BATCH_SIZE=16, MAX_NEW_TOKENS=8)[0] == 0
    together = read_answers()
    assert run_job("evaluate", **FEW_STEPS, PER_DEVICE_EVAL_BATCH_SIZE=1, MAX_NEW_TOKENS=8)[0] == 0
    assert read_answers() == together
    assert len(set(together)) > 1


@pytest.mark.parametrize("family", ["pegasus", "led"])
def test_answers_are_as_long_as_the_decoder_has_positions_at_most(run_job, tmp_path, family):
    build(family, tmp_path / "base")
    positions = read_positions(AutoConfig.from_pretrained(tmp_path / "base")).target
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    answer = "red"
    while len(tokenizer(text_target=f"{answer} red").input_ids) < positions - 1:
        answer += " red"
    write("rows.jsonl", [(f"city {number}", answer) for number in range(20)])
    code, said = run_job(**FEW_STEPS)
    assert code == 0, said
    assert json.loads(Path("output/r/adapter/job.json").read_text())["max_new_tokens"] == positions
    code, said = run_job(**FEW_STEPS | {"RUN_NAME": "s"}, MAX_NEW_TOKENS=positions + 1)
    assert code == 78
    assert f"MAX_NEW_TOKENS={positions + 1}: the model has positions for {positions}. Set at most that." in said


def test_a_causal_models_answer_ends_where_its_positions_do(run_job, tmp_path):
    build("gpt2", tmp_path / "base")
    positions = json.loads((tmp_path / "base" / "config.json").read_text())["n_positions"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    words = positions // len(tokenizer(" north").input_ids)
    questions = [*texts(18, 3), *(" ".join(["north"] * (words * 2 // 3)) + f" {number}" for number in range(2))]
    write("rows.jsonl", [(text, "paper three " * 4) for text in questions])
    code, said = run_job(**FEW_STEPS, MAX_NEW_TOKENS=positions // 2)
    assert code == 0, said
    assert run_job("predict", "rows.jsonl", "answers.jsonl", **FEW_STEPS)[0] == 0
    assert len(Path("answers.jsonl").read_text().splitlines()) == 20


def test_held_out_rows_that_are_longer_than_the_training_rows_are_not_cut(run_job, t5_folder):
    write("rows.jsonl", [(text, "x") for text in texts(40, 3)])
    write("held.jsonl", [(f"{text} more", f"{text} and more") for text in texts(20, 20, seed=1)])
    longer = FEW_STEPS | {"MODEL_ID": t5_folder, "EVAL_DATA": "held.jsonl"}
    code, said = run_job(**longer)
    assert code == 0, said
    (line,) = [line for line in said.splitlines() if line.startswith("held-out rows")]
    assert "cut" not in line
    code, said = run_job(**longer | {"RUN_NAME": "s"}, MAX_TARGET_LENGTH="p90")
    assert code == 65
    assert "held-out rows: 20 of 20 answers (100.0%) are longer than" in said


def test_special_tokens_of_the_right_answers_are_kept_and_others_are_not(run_job, tmp_path):
    build("t5", tmp_path / "base")
    write("rows.jsonl", [(text, f"<extra_id_0> {text.split()[0]} <extra_id_1>") for text in texts(60, 3)])
    learning = {"MAX_STEPS": 150, "LEARNING_RATE": 0.02, "LORA_R": 16, "TARGET_MODULES": "all-linear", "MODULES_TO_SAVE": "lm_head"}
    code, said = run_job(**FEW_STEPS | learning)
    assert code == 0, said
    assert all("<extra_id_0>" in answer for answer in read_answers())
    assert "8 of 8 answers the same" in said
    assert not any("</s>" in answer or "<pad>" in answer for answer in read_answers())
    assert run_job("predict", "rows.jsonl", "answers.jsonl", **FEW_STEPS)[0] == 0
    assert all("<extra_id_0>" in json.loads(line)["output"] for line in Path("answers.jsonl").read_text().splitlines())


def test_an_end_marker_that_only_the_tokenizer_knows_ends_answers_everywhere(run_job, tmp_path):
    """By plain transformers with what the adapter's folder holds, too."""
    from peft import PeftModel

    build("t5", tmp_path / "base")
    config = json.loads((tmp_path / "base/generation_config.json").read_text())
    (tmp_path / "base/generation_config.json").write_text(json.dumps(config | {"eos_token_id": 250}))
    write("rows.jsonl", [(text, text.split()[0]) for text in texts(60, 3)])
    code, said = run_job(**FEW_STEPS | {"MAX_STEPS": 30, "LEARNING_RATE": 0.02, "TARGET_MODULES": "all-linear"}, MAX_NEW_TOKENS=12)
    assert code == 0, said
    folder = tmp_path / "output/r/adapter"
    tokenizer, answering = AutoTokenizer.from_pretrained(folder), GenerationConfig.from_pretrained(folder)
    assert set(answering.eos_token_id) == {1, 250}
    model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base"), folder).eval()
    for row in read_csv(Path("output/r/evaluation.csv")):
        asked = tokenizer(f"Input: {row['input']}", return_tensors="pt")
        answer = model.generate(**asked, generation_config=answering)[0]
        assert tokenizer.decode(answer, skip_special_tokens=True).strip() == row["adapter_output"]


@pytest.mark.parametrize("family", ["mbart", "mbart50", "m2m100"])
def test_a_translator_learns_the_language_that_is_wanted(run_job, tmp_path, family):
    build(family, tmp_path / "base")
    write("rows.jsonl", [(text, "red") for text in texts(20, 3)])
    source, target = ("fr", "ro") if family == "m2m100" else ("fr_XX", "ro_RO")
    code, said = run_job(**FEW_STEPS, SOURCE_LANGUAGE=source, TARGET_LANGUAGE=target)
    assert code == 0, said
    saved = AutoTokenizer.from_pretrained("output/r/adapter")
    assert (saved.src_lang, saved.tgt_lang) == (source, target)
    code, said = run_job(**FEW_STEPS | {"RUN_NAME": "s"}, TARGET_LANGUAGE="xx")
    assert code == 78
    assert "TARGET_LANGUAGE=xx: this model does not know it" in said
