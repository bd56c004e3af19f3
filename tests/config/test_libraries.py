"""The libraries' own config objects, against what the settings ask for."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from job.config import libraries
from job.config.libraries import check_trackers, lora_config, training_arguments, weight_format
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
    monkeypatch.setattr(libraries, "get_available_reporting_integrations", lambda: ["wandb"])
    check_trackers(Settings(report_to="tensorboard,wandb"))


@pytest.mark.parametrize(("micro_batch", "accumulation"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_what_a_micro_batch_lacks_of_the_effective_batch_is_accumulated(tmp_path, micro_batch, accumulation):
    made = training_arguments(Settings(), tmp_path, "cpu", micro_batch)
    assert (made.per_device_train_batch_size, made.gradient_accumulation_steps) == (micro_batch, accumulation)
    assert made.per_device_eval_batch_size == micro_batch


SAME_NAME = {
    "learning_rate": 0.5, "lr_scheduler_type": "cosine", "warmup_steps": 0.25, "weight_decay": 0.1, "optim": "adafactor",
    "max_grad_norm": 0.5, "train_sampling_strategy": "random", "seed": 7, "logging_steps": 3, "save_strategy": "steps",
    "save_steps": 11, "eval_strategy": "steps", "eval_steps": 5, "num_train_epochs": 2.5,
}  # fmt: skip


def test_every_setting_of_the_training_reaches_the_trainer_under_its_name(tmp_path):
    made = training_arguments(Settings(run_name="mine", **SAME_NAME), tmp_path, "cpu", 8)
    assert {name: getattr(made, name) for name in SAME_NAME} == SAME_NAME
    assert (made.output_dir, made.run_name, made.max_steps) == (str(tmp_path), "mine", -1)
    assert training_arguments(Settings(max_steps=3), tmp_path, "cpu", 8).max_steps == 3


@pytest.mark.parametrize(
    ("asked", "metric", "greater"),
    [
        ({}, "loss", False),
        ({"metric_for_best_model": "chrf"}, "chrf", True),
        ({"load_best_model_at_end": False}, None, False),
    ],
)
def test_the_best_model_is_that_of_the_lowest_loss_or_the_highest_score(tmp_path, asked, metric, greater):
    made = training_arguments(Settings(**asked), tmp_path, "cpu", 8)
    assert (made.metric_for_best_model, made.greater_is_better) == (metric, greater)


@pytest.mark.parametrize(("trackers", "expected"), [("tensorboard", []), ("none", []), ("tensorboard,wandb", ["wandb"])])
def test_curves_are_the_jobs_own_and_other_trackers_the_librarys(tmp_path, monkeypatch, trackers, expected):
    made = training_arguments(Settings(report_to=trackers), tmp_path, "cpu", 8)
    assert made.report_to == expected


def test_a_number_that_is_not_finite_is_logged_as_it_is(tmp_path):
    """The library would log the mean of what was finite."""
    assert training_arguments(Settings(), tmp_path, "cpu", 8).logging_nan_inf_filter is False
