"""Whole runs in this process, on tiny models: what a person does, and what is then in the folders."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_from_disk
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSeq2SeqLM
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoTokenizer

import entrypoint
from tests.conftest import FINISHED as FEW_STEPS
from tests.conftest import environment_with


def test_a_run_leaves_what_the_design_promises(finished_run):
    _, folder = finished_run
    assert {"adapter", "evaluation.csv", "status.json", "data"} <= {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "README.md"} <= {
        path.name for path in (folder / "adapter").iterdir()
    }
    assert json.loads((folder / "status.json").read_text())["state"] == "done"
    with (folder / "evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["input", "ground_truth", "base_output", "adapter_output"]
    assert len(rows) == 8
    assert len(load_from_disk(str(folder / "data" / "train"))) == 32


def test_the_curves_hold_every_step(finished_run):
    events = EventAccumulator("logs/r").Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert {
        "train/grad_norm",
        "train/learning_rate",
        "speed/examples_per_second",
        "data/padding_share",
        "memory/peak_memory_gib",
    } <= set(events.Tags()["scalars"])


def test_the_adapter_loads_with_nothing_but_peft_and_answers_as_recorded(finished_run):
    _, folder = finished_run
    model = AutoPeftModelForSeq2SeqLM.from_pretrained(folder / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "adapter")
    with (folder / "evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        row = next(csv.DictReader(file))
    inputs = tokenizer(f"Input: {row['input']}", return_tensors="pt")
    tokens = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(tokens[0], skip_special_tokens=True).strip() == row["adapter_output"]


def test_the_base_output_is_that_of_the_untouched_model(finished_run, t5_folder):
    from transformers import T5ForConditionalGeneration

    _, folder = finished_run
    model, tokenizer = T5ForConditionalGeneration.from_pretrained(t5_folder), AutoTokenizer.from_pretrained(t5_folder)
    with (folder / "evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        row = next(csv.DictReader(file))
    tokens = model.generate(**tokenizer(f"Input: {row['input']}", return_tensors="pt"), max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(tokens[0], skip_special_tokens=True).strip() == row["base_output"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"REPORT_TO": "wandb"}, "REPORT_TO: wandb is not installed here"),
        ({"PREPROCESS": "none.py:f"}, "PREPROCESS=none.py:f: no such file as none.py"),
        ({"SEED": "-1"}, "SEED"),
        ({"MODULES_TO_SAVE": "xx"}, 'MODULES_TO_SAVE: no module of the model is named "xx"'),
    ],
)
def test_what_cannot_be_is_told_and_is_no_bug(run_job, t5_folder, write_rows, questions, variables, expected):
    code, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), **FEW_STEPS | variables)
    assert code == 78, said
    assert expected in said


def test_the_same_rows_and_seed_give_the_same_adapter(finished_run, run_job):
    variables, folder = finished_run
    assert run_job(**variables | {"RUN_NAME": "again"})[0] == 0
    first, second = (path / "adapter" / "adapter_model.safetensors" for path in (folder, Path("output/again")))
    assert first.read_bytes() == second.read_bytes()


def test_a_causal_model_is_trained_and_measured(run_job, llama_folder, write_rows, questions):
    code, said = run_job(MODEL_ID=llama_folder, TRAIN_DATA=write_rows(questions), **FEW_STEPS)
    assert code == 0, said
    assert re.search(r"verdict: .* on 8 rows: ", said)
    model = AutoPeftModelForCausalLM.from_pretrained("output/r/adapter")
    assert json.loads(Path("output/r/adapter/adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    assert any("lora_B" in name and parameter.abs().sum() > 0 for name, parameter in model.named_parameters())


def test_chats_are_trained_on(run_job, llama_folder, write_rows):
    chats = [
        {"messages": [{"role": "user", "content": f"day {number}"}, {"role": "assistant", "content": f"05-{number:02d}"}]}
        for number in range(1, 21)
    ]
    code, said = run_job(MODEL_ID=llama_folder, TRAIN_DATA=write_rows(chats, "chats.jsonl"), **FEW_STEPS)
    assert code == 0, said
    with Path("output/r/evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert {row["ground_truth"] for row in rows} <= {chat["messages"][1]["content"] for chat in chats}
    assert all(row["input"].startswith("day ") for row in rows)


def test_data_prepared_elsewhere_is_trained_on_as_it_is(run_job, t5_folder, write_rows, questions):
    shared = {"MODEL_ID": t5_folder} | FEW_STEPS
    assert run_job("prepare", TRAIN_DATA=write_rows(questions), **shared | {"RUN_NAME": "laptop"})[0] == 0
    assert not Path("output/laptop/adapter").exists()
    code, said = run_job(TRAIN_DATA="output/laptop/data/train", EVAL_DATA="output/laptop/data/eval", **shared)
    assert code == 0, said
    here, there = (load_from_disk(f"output/{name}/data/train") for name in ("r", "laptop"))
    assert here["input_ids"][:] == there["input_ids"][:]
    with Path("output/r/evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        assert next(csv.DictReader(file))["ground_truth"].startswith("05-")


def test_trained_biases_do_not_leak_into_the_base_outputs(run_job, write_rows, questions, tmp_path, tokenizer):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path / "gpt2"
    GPT2LMHeadModel(
        GPT2Config(vocab_size=384, n_embd=32, n_layer=2, n_head=4, n_positions=128, eos_token_id=1, bos_token_id=1)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shared = {"MODEL_ID": folder, "TRAIN_DATA": write_rows(questions), "LEARNING_RATE": 0.05} | FEW_STEPS
    assert run_job(**shared | {"LORA_BIAS": "all"})[0] == 0
    assert run_job(**shared | {"RUN_NAME": "none"})[0] == 0
    tables = []
    for name in ("r", "none"):
        with Path(f"output/{name}/evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
            tables.append(list(csv.DictReader(file)))
    with_bias, without = tables
    assert [row["base_output"] for row in with_bias] == [row["base_output"] for row in without]
    np.testing.assert_allclose(
        [float(row["base_loss"]) for row in with_bias], [float(row["base_loss"]) for row in without], rtol=1e-6
    )
    assert [row["adapter_loss"] for row in with_bias] != [row["adapter_loss"] for row in without]


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"QUANTIZATION": "nf4"},
        {"PRECISION": "bf16"},
        {"USE_DORA": "true", "TARGET_MODULES": "q,wo"},
        {"USE_RSLORA": "true", "INIT_LORA_WEIGHTS": "orthogonal", "TARGET_MODULES": "all-linear"},
        {"MODULES_TO_SAVE": "lm_head", "INIT_LORA_WEIGHTS": "gaussian"},
        {"OPTIM": "adafactor", "GRADIENT_CHECKPOINTING": "true", "LR_SCHEDULER_TYPE": "cosine", "WARMUP_STEPS": "0.5"},
        {"PER_DEVICE_TRAIN_BATCH_SIZE": "2", "TRAIN_SAMPLING_STRATEGY": "random", "EVAL_STRATEGY": "epoch", "NUM_BEAMS": "2"},
    ],
    ids="+".join,
)
def test_every_kind_of_lora_and_training_makes_an_adapter_that_does_something(run_job, t5_folder, write_rows, questions, variables):
    asked = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions), "LEARNING_RATE": 0.05} | FEW_STEPS | variables
    code, said = run_job(**asked)
    assert code == 0, said
    with Path("output/r/evaluation.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert np.mean([float(row["adapter_loss"]) for row in rows]) < np.mean([float(row["base_loss"]) for row in rows])


def test_no_secret_is_in_anything_that_a_run_wrote(run_job, t5_folder, write_rows, questions, caplog):
    secret = "hf_plantedsecret123"
    assert run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), HF_TOKEN=secret, **FEW_STEPS)[0] == 0
    written = [path for folder in ("output", "logs") for path in Path(folder).rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if secret.encode() in path.read_bytes()]
    assert secret not in caplog.text


@pytest.mark.slow
def test_a_hub_model_in_the_cache_works_offline_and_the_adapter_names_its_id(t5_folder, write_rows, questions, tmp_path):
    import shutil
    import subprocess
    import sys

    repository = tmp_path / "cache" / "hub" / "models--someone--tiny-t5"
    shutil.copytree(t5_folder, repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    variables = {"MODEL_ID": "someone/tiny-t5", "HF_HOME": tmp_path / "cache", "TRAIN_DATA": write_rows(questions)} | FEW_STEPS
    program = [sys.executable, entrypoint.__file__]
    result = subprocess.run(program, cwd=tmp_path, env=environment_with(variables), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    written = json.loads(Path("output/r/adapter/adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == "someone/tiny-t5"
    lines = result.stderr.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), "only our own lines belong on a plain terminal"


def test_the_demos_adapter_finds_its_base_from_any_clone(run_job, tmp_path, monkeypatch):
    assert run_job(MAX_STEPS="2", EVAL_MAX_ROWS="4")[0] == 0
    monkeypatch.chdir(Path(entrypoint.__file__).parent)
    adapted = AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path / "output" / "demo" / "adapter")
    assert adapted.get_nb_trainable_parameters()[1] == 1_307_776
    monkeypatch.chdir(tmp_path)
    Path("new.jsonl").write_text('{"input": "Lunch at 4pm on March 3rd, 2027?"}\n')
    assert run_job("predict", "new.jsonl", "answers.jsonl")[0] == 0
    assert "output" in json.loads(Path("answers.jsonl").read_text())


def test_data_prepared_on_a_laptop_is_trained_as_the_other_machine_can(run_job, t5_folder, write_rows, questions):
    variables = {"MODEL_ID": t5_folder, "TRAIN_DATA": write_rows(questions)} | FEW_STEPS
    assert run_job("prepare", **variables)[0] == 0
    plan = Path("output/r/plan.json")
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"precision": "bf16", "micro_batch": 2}))
    assert run_job(**variables)[0] == 0
    chosen = json.loads(plan.read_text())
    assert (chosen["precision"], chosen["micro_batch"]) == ("fp32", 8)


def test_others_of_this_person_can_read_everything(run_job, t5_folder, write_rows, questions):
    umask = os.umask(0o022)
    try:
        assert run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), **FEW_STEPS)[0] == 0
    finally:
        os.umask(umask)
    unreadable = [path for path in Path("output/r").rglob("*") if path.is_file() and not path.stat().st_mode & 0o004]
    assert unreadable == []
