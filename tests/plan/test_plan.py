"""Plans: what is predicted against what is counted, and what is chosen for whom."""

import json
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, LlamaConfig

from job.commands.plan import _simulated
from job.config.settings import Settings
from job.errors import OutOfMemory
from job.model.patches import fuse_gelu
from job.pipeline.plan import choose_eval_batch_size, plan_for_machine
from job.pipeline.records import PlanRecord
from job.pipeline.workload import assume_workload
from job.plan.choose import PlanConstraints, Workload, choose
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import Gpu, closest_gpu, read_catalogue
from job.plan.memory import Batch, TrainingPlan, activation_bytes, peak_bytes, weights_bytes
from job.plan.model_catalogue import known_config
from job.plan.simulate import run_tracked, simulate_training_step
from job.system.hardware import GIB, Hardware

QV = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")
LLAMA_QV = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
qv, llama_qv = (partial(get_peft_model, peft_config=config) for config in (QV, LLAMA_QV))
WORK = Workload(longest=(256, 56), mean=(150, 30), row_passes=5000, effective_batch_size=8)
CARDS = read_catalogue()


def flan(size: str):
    return known_config(f"google/flan-t5-{size}")


@pytest.mark.parametrize(
    ("size", "parameters", "adapter"),
    [("small", 76_961_152, 688_128), ("base", 247_577_856, 1_769_472), ("large", 783_150_080, 4_718_592),
     ("xl", 2_849_757_184, 9_437_184), ("xxl", 11_135_332_352, 18_874_368)],
)  # fmt: skip
def test_the_shape_counts_the_parameters_of_the_published_models(size, parameters, adapter):
    dimensions = read_dimensions(flan(size))
    assert dimensions.parameters == pytest.approx(parameters, rel=1e-3)
    assert dimensions.adapter(16) == adapter


def test_flops_are_those_of_the_published_table():
    """Useful GFLOP an example at 150 source and 30 target tokens: small to XXL 19, 78, 273, 1008, 3973."""
    sizes = ("small", "base", "large", "xl", "xxl")
    found = [read_dimensions(flan(size)).training_flops(150, 30) / 1e9 for size in sizes]
    assert found == pytest.approx([19, 78, 273, 1008, 3973], rel=0.03)


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, "bf16"), (torch.float32, "fp32")])
@pytest.mark.parametrize(("size", "batch"), [("small", Batch(8, 256, 56)), ("base", Batch(2, 512, 128))])
def test_the_formula_agrees_with_the_simulated_step(size, batch, dtype, precision):
    simulated = simulate_training_step(flan(size), qv, dtype, batch)
    dimensions = read_dimensions(flan(size))
    formula = weights_bytes(dimensions, precision, "none") + 16 * dimensions.adapter(16)
    formula += activation_bytes(dimensions, TrainingPlan(precision, "none", batch.rows, 0), batch)
    assert 0.97 < formula / simulated.peak < 1.10


@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, "bf16"), (torch.float32, "fp32")])
def test_the_formula_agrees_with_the_simulated_step_of_a_causal_model(dtype, precision):
    config = LlamaConfig(
        vocab_size=8000, hidden_size=768, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=12, num_key_value_heads=4
    )  # fmt: skip
    simulated = simulate_training_step(config, llama_qv, dtype, Batch(4, 384, 0))
    dimensions = read_dimensions(config)
    formula = weights_bytes(dimensions, precision, "none") + 16 * dimensions.adapter(16)
    formula += activation_bytes(dimensions, TrainingPlan(precision, "none", 4, 0), Batch(4, 384, 0))
    assert 0.95 < formula / simulated.peak < 1.10


def test_the_simulation_counts_what_real_tensors_take():
    """The same tracker over a real model with real tensors on the CPU, whose kernels keep the same when nothing is patched."""
    config = flan("small")
    config.num_layers = config.num_decoder_layers = 2
    config.dropout_rate = 0.0
    model = AutoModelForSeq2SeqLM.from_config(config).requires_grad_(False)
    fuse_gelu(model)
    real = run_tracked(get_peft_model(model, QV).train(), Batch(4, 64, 16))
    simulated = simulate_training_step(config, qv, torch.float32, Batch(4, 64, 16))
    head = config.vocab_size * config.d_model * 4  # from_config ties it; the simulation gives FLAN-T5 its own
    assert simulated.weights - head == pytest.approx(real.weights, rel=1e-3)
    assert simulated.peak - simulated.weights == pytest.approx(real.peak - real.weights, rel=0.15)


def test_memory_grows_with_rows_lengths_and_width_and_shrinks_with_checkpointing():
    dimensions = read_dimensions(flan("xl"))
    growing = [peak_bytes(dimensions, TrainingPlan("bf16", "none", rows, 0), 256, 56, 16) for rows in (1, 2, 4, 8)]
    longer = [peak_bytes(dimensions, TrainingPlan("bf16", "none", 1, 0), length, 56, 16) for length in (64, 256, 512)]
    saving = [-peak_bytes(dimensions, TrainingPlan("bf16", "none", 8, blocks), 256, 56, 16) for blocks in range(1, 49)]
    assert all(before < after for series in (growing, longer, saving) for before, after in pairwise(series))


@pytest.mark.parametrize("size", ["small", "base", "large", "xl"])
def test_a_v100_with_16_gb_trains_small_to_xl_without_quantisation(size):
    estimate = choose(read_dimensions(flan(size)), CARDS["V100-16GB"], WORK, PlanConstraints())
    assert estimate.fits
    assert (estimate.plan.precision, estimate.plan.quantization) == ("fp16", "none")


def test_a_v100_with_16_gb_trains_xxl_with_nf4():
    estimate = choose(read_dimensions(flan("xxl")), CARDS["V100-16GB"], WORK, PlanConstraints())
    assert estimate.fits
    assert (estimate.plan.precision, estimate.plan.quantization) == ("fp16", "nf4")
    alone = peak_bytes(read_dimensions(flan("xxl")), TrainingPlan("fp16", "nf4", 8, 48), 256, 56, 16)
    assert alone < 0.6 * CARDS["V100-16GB"].memory_gib * GIB, "with room to spare where all blocks are checkpointed"


def test_cards_from_8_0_on_take_bf16_and_checkpoint_only_where_they_must():
    dimensions = read_dimensions(flan("xl"))
    ways = {name: choose(dimensions, CARDS[name], WORK, PlanConstraints()).plan for name in ("L4", "A100-40GB", "H100", "T4")}
    assert [ways[name].precision for name in ("L4", "A100-40GB", "H100", "T4")] == ["bf16", "bf16", "bf16", "fp16"]
    assert ways["H100"].checkpointed_blocks == 0
    assert 0 < ways["T4"].checkpointed_blocks < dimensions.blocks


def test_int8_and_what_else_was_asked_for_is_obeyed():
    asked = choose(read_dimensions(flan("base")), CARDS["A100-40GB"], WORK, PlanConstraints("int8", "bf16", True, 2))
    assert asked.plan == TrainingPlan("bf16", "int8", 2, 24)


def test_what_fits_nowhere_on_a_card_says_how_much_it_needs():
    estimate = choose(
        read_dimensions(flan("xxl")), Gpu("small", 6.0, (8, 6), {"bf16": 50, "fp32": 10}, 0.3), WORK, PlanConstraints()
    )
    assert not estimate.fits
    assert "of 6.0" in estimate.reason


def test_a_run_on_a_card_that_is_too_small_ends_with_72_and_what_would_fit():
    hardware = Hardware("cuda", "tiny card", 6 * GIB, (8, 6))
    with pytest.raises(OutOfMemory, match=r"It would fit V100-16GB \(nf4\), .*MAX_SOURCE_LENGTH") as raised:
        plan_for_machine(Settings(model_id="google/flan-t5-xxl"), hardware, flan("xxl"), WORK)
    assert raised.value.exit_code == 72


def test_a_machine_borrows_rates_from_its_like_and_a_price_only_from_its_own_kind():
    assert closest_gpu("Tesla V100-SXM2-16GB", 15.77, (7, 0)).price_usd_per_hour == CARDS["V100-16GB"].price_usd_per_hour
    other = closest_gpu("NVIDIA GeForce RTX 3090", 23.7, (8, 6))
    assert (other.dense_tflops, other.price_usd_per_hour) == (CARDS["A10G"].dense_tflops, None)


def test_the_command_prints_a_row_a_gpu_without_a_network(run_job, capsys):
    assert run_job("plan", MODEL_ID="google/flan-t5-xl")[0] == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line.split() and line.split()[0] in CARDS}
    assert rows.keys() == CARDS.keys()
    assert "fp16" in rows["V100-16GB"]
    assert "inputs 150/220/256 tokens" in lines[1]


def test_the_command_measures_the_lengths_of_the_data_and_leaves_nothing_behind(
    run_job, capsys, t5_folder, write_rows, questions, tmp_path
):
    before = sorted(path.name for path in tmp_path.iterdir())
    data = write_rows(questions)
    assert run_job("plan", "--json", MODEL_ID=t5_folder, TRAIN_DATA=data, PLAN_GPU="T4", NUM_TRAIN_EPOCHS="2")[0] == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["gpu"], told["fits"], told["micro_batch"]) == ("T4", True, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, data.name])


def test_an_unknown_gpu_and_wrong_lengths_are_answered(run_job):
    code, said = run_job("plan", MODEL_ID="google/flan-t5-xl", PLAN_GPU="V1000")
    assert code == 78
    assert "PLAN_GPU=V1000: not in job/plan/gpus.toml, which has V100-16GB" in said
    code, said = run_job("plan", PLAN_SOURCE_LENGTHS="150")
    assert code == 78
    assert "median/95th percentile/longest in tokens" in said


def test_plan_gpu_is_told_in_full_from_a_simulated_step(run_job, capsys, t5_folder, write_rows, questions):
    assert run_job("plan", MODEL_ID=t5_folder, TRAIN_DATA=write_rows(questions), PLAN_GPU="V100-16GB")[0] == 0
    told = {line.strip().partition("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "fits" in told["verdict"]
    assert "answering 32 rows at once, after training" in told


@pytest.mark.parametrize(("quantization", "blocks"), [("none", 3), ("nf4", 0)])
def test_the_simulated_choice_agrees_with_the_formula_in_fp16(quantization, blocks):
    estimate = choose(read_dimensions(flan("base")), CARDS["V100-16GB"], WORK, PlanConstraints(quantization))
    estimate = replace(estimate, plan=replace(estimate.plan, checkpointed_blocks=blocks))
    formula = peak_bytes(read_dimensions(flan("base")), estimate.plan, *WORK.longest, 16)
    found, memory = _simulated(Settings(model_id="google/flan-t5-base"), flan("base"), WORK, estimate)
    assert 0.95 < formula / found.peak_bytes < 1.10
    parts = [memory[name] for name in list(memory)[:3]]
    assert sum(parts) == pytest.approx(found.peak_bytes / GIB, abs=0.02)


def test_a_step_that_does_not_fit_when_simulated_is_said_not_to_fit():
    estimate = choose(
        read_dimensions(flan("base")), Gpu("small", 3.4, (8, 6), {"bf16": 50, "fp32": 10}, 0.3), WORK, PlanConstraints()
    )
    assert estimate.fits
    next_smaller_micro_batch = replace(estimate, gpu=replace(estimate.gpu, memory_gib=1.5))
    found, _ = _simulated(Settings(model_id="google/flan-t5-base"), flan("base"), WORK, next_smaller_micro_batch)
    assert not found.fits


def test_the_next_plan_takes_the_speed_that_an_earlier_run_measured(run_job, capsys):
    def rate() -> tuple[float, list[float]]:
        assert run_job("plan", "--json", MODEL_ID="google/flan-t5-xl")[0] == 0
        told = {entry["gpu"]: entry for entry in json.loads(capsys.readouterr().out)}
        assert told["T4"]["speed_factor"] == 1
        return told["V100-16GB"]["predicted_examples_per_s"], told["V100-16GB"]["predicted_hours"]

    before, (low, high) = rate()
    for name, kind, model in (("mine", "V100-16GB", "google/flan-t5-xl"), ("other", "T4", "google/flan-t5-base")):
        folder = Path("output") / name
        folder.mkdir(parents=True)
        PlanRecord(model, "fp16", "none", 8, 0, gpu_kind=kind, measured_speed_factor=0.5).write(folder / "plan.json")
    after, (new_low, new_high) = rate()
    assert after == pytest.approx(before / 2, rel=1e-3)
    assert new_high / new_low < high / low


def test_lengths_that_are_given_mean_what_a_list_of_such_lengths_has():
    """A sample with that median, 95th percentile and longest, evenly in between, and from half the median on."""
    sample = np.concatenate([np.linspace(75, 150, 500), np.linspace(150, 220, 450), np.linspace(220, 256, 50)])
    assert assume_workload(Settings(), seq2seq=True).mean[0] == pytest.approx(sample.mean(), rel=1e-3)


@pytest.mark.parametrize(("gib", "rows"), [(8, 8), (16, 32), (24, 64), (80, 256)])
def test_as_many_rows_are_answered_at_once_as_fit_the_gpu(gib, rows):
    """FLAN-T5 XL in bf16, 512 tokens in and 100 out, by hand: weights 5.7 GB; a row takes 2 x 2 x 2048 x 24 x 612 = 120 MB of keys
    and values and 512 x 63,488 = 33 MB in a block, 153 MB in all: 32 rows 10.6 GB, 64 15.5 GB, 128 25.3 GB, 256 44.9 GB."""
    hardware = Hardware("cuda", "a GPU", gib * GIB, (8, 0))
    assert choose_eval_batch_size(Settings(), hardware, flan("xl"), ("bf16", "none"), (512, 100)) == rows


def test_rows_at_once_are_as_set_and_few_on_a_cpu():
    config, form = flan("xl"), ("fp32", "none")
    cpu, gpu = Hardware("cpu", "CPU", 8 * GIB), Hardware("cuda", "a GPU", 80 * GIB, (8, 0))
    assert choose_eval_batch_size(Settings(), cpu, config, form, (512, 100)) == 32
    assert choose_eval_batch_size(Settings(per_device_eval_batch_size=3), gpu, config, form, (512, 100)) == 3
