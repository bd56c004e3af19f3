"""The libraries' own config objects, against what the settings ask for."""

import dataclasses

import pytest
import torch
from accelerate.tracking import LoggerType
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, TrainingArguments

from job.config import libraries
from job.config.libraries import check_trackers, lora_config, training_config, weight_format
from job.config.settings import Settings
from job.errors import SettingsError
from job.model.lora import add_lora


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_weights_that_are_not_quantised_have_the_type_alone(precision, dtype):
    assert weight_format(precision, "none") == (dtype, None)


@pytest.mark.parametrize(("precision", "storage"), [("fp32", torch.float32), ("fp16", torch.float32), ("bf16", torch.bfloat16)])
def test_nf4_beside_half_precision_is_stored_so_that_wo_stays_in_float32(precision, storage):
    dtype, config = weight_format(precision, "nf4")
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert (config.bnb_4bit_compute_dtype, config.bnb_4bit_quant_storage) == (dtype, storage)


def test_int8_is_the_librarys():
    dtype, config = weight_format("fp16", "int8")
    assert (dtype, config.load_in_8bit, config.load_in_4bit) == (torch.float16, True, False)


@pytest.mark.parametrize(
    ("kind", "auto", "task_type", "names"),
    [
        ("t5_folder", AutoModelForSeq2SeqLM, "SEQ_2_SEQ_LM", {"q", "v"}),
        ("llama_folder", AutoModelForCausalLM, "CAUSAL_LM", {"q_proj", "v_proj"}),
    ],
)
def test_the_adapter_of_each_kind_has_the_parameters_that_its_rank_gives(request, kind, auto, task_type, names):
    """r x (in + out) for every adapted layer, counted on the untouched model."""
    model = auto.from_pretrained(request.getfixturevalue(kind))
    layers = [layer for name, layer in model.named_modules() if name.rpartition(".")[2] in names]
    expected = sum(3 * (layer.in_features + layer.out_features) for layer in layers)
    config = lora_config(Settings(lora_r=3), model)
    assert config.task_type == task_type
    assert add_lora(model, config).get_nb_trainable_parameters()[0] == expected > 0


def test_every_setting_of_the_adapter_reaches_peft(t5_folder):
    model = AutoModelForSeq2SeqLM.from_pretrained(t5_folder)
    asked = Settings(
        lora_r=4, lora_alpha=6, lora_dropout=0.25, target_modules="q,wo", lora_bias="lora_only", modules_to_save="lm_head",
        use_rslora=True, use_dora=True, init_lora_weights="gaussian", model_revision="v1",
    )  # fmt: skip
    made = lora_config(asked, model)
    assert (made.r, made.lora_alpha, made.lora_dropout, set(made.target_modules)) == (4, 6, 0.25, {"q", "wo"})
    assert (made.bias, made.modules_to_save, made.use_rslora, made.use_dora) == ("lora_only", ["lm_head"], True, True)
    assert (made.init_lora_weights, made.revision) == ("gaussian", "v1")
    assert lora_config(Settings(), model).init_lora_weights is True
    assert lora_config(Settings(), model).modules_to_save is None


@pytest.mark.parametrize("trackers", ["tensorboard", "none", "", "tensorboard,none"])
def test_known_trackers_pass(trackers):
    check_trackers(Settings(report_to=trackers))


def test_a_tracker_that_is_not_installed_is_told_by_name(monkeypatch):
    with pytest.raises(SettingsError, match="REPORT_TO: wandb is not installed here"):
        check_trackers(Settings(report_to="tensorboard,wandb"))
    monkeypatch.setattr(libraries, "get_available_trackers", lambda: [LoggerType.WANDB])
    check_trackers(Settings(report_to="tensorboard,wandb"))


SAME_NAME = {
    "learning_rate": 0.5, "lr_scheduler_type": "cosine", "warmup_steps": 0.25, "weight_decay": 0.1, "optim": "adafactor",
    "max_grad_norm": 0.5, "seed": 7, "logging_steps": 3, "save_strategy": "steps", "save_steps": 11, "eval_strategy": "steps",
    "eval_steps": 5, "num_train_epochs": 2.5, "effective_batch_size": 6,
}  # fmt: skip


def test_every_setting_of_the_training_reaches_the_loop_under_its_name(tmp_path):
    made = training_config(Settings(**SAME_NAME), tmp_path)
    assert {name: getattr(made, name) for name in SAME_NAME} == SAME_NAME
    assert (made.checkpoints, made.max_steps, made.patience) == (tmp_path, None, None)
    assert training_config(Settings(max_steps=3), tmp_path).max_steps == 3
    assert training_config(Settings(early_stopping_patience=4, eval_strategy="epoch"), tmp_path).patience == 4
    for asked in ("auto", "true", "false"):
        assert training_config(Settings(gradient_checkpointing=asked), tmp_path).may_recompute == (asked == "auto")
    others = {
        "checkpoints",
        "max_steps",
        "patience",
        "may_recompute",
        "group_by_length",
        "metric_for_best_model",
        "greater_is_better",
    }
    assert {field.name for field in dataclasses.fields(made)} == SAME_NAME.keys() | others, "no field is left out here"


@pytest.mark.parametrize(("strategy", "grouped"), [("group_by_length", True), ("random", False)])
def test_the_order_of_the_rows_is_as_set(tmp_path, strategy, grouped):
    assert training_config(Settings(train_sampling_strategy=strategy), tmp_path).group_by_length is grouped


def test_steps_between_evaluations_and_checkpoints_are_the_librarys_where_they_are_not_set(tmp_path):
    usual, library = training_config(Settings(), tmp_path), TrainingArguments(output_dir=str(tmp_path))
    assert usual.save_steps == library.save_steps == 500
    assert usual.eval_steps == 500


@pytest.mark.parametrize(
    ("asked", "metric", "greater"),
    [
        ({}, "loss", False),
        ({"metric_for_best_model": "chrf"}, "chrf", True),
        ({"load_best_model_at_end": False}, None, False),
    ],
)
def test_the_best_model_is_that_of_the_lowest_loss_or_the_highest_score(tmp_path, asked, metric, greater):
    made = training_config(Settings(**asked), tmp_path)
    assert (made.metric_for_best_model, made.greater_is_better) == (metric, greater)
