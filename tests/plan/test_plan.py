"""Plans: what is predicted against what is counted, and what is chosen for whom."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM, LlamaConfig

from job.model.patches import fuse_gelu
from job.plan.choose import PlanConstraints, Workload, choose
from job.plan.dimensions import read_dimensions
from job.plan.gpu_catalogue import Gpu, closest_gpu, read_catalogue
from job.plan.memory import Batch, TrainingPlan, activation_bytes, peak_bytes, weights_bytes
from job.plan.model_catalogue import known_config
from job.plan.simulate import run_tracked, simulate_training_step
from job.system.hardware import GIB

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


def test_a_machine_borrows_rates_from_its_like_and_a_price_only_from_its_own_kind():
    assert closest_gpu("Tesla V100-SXM2-16GB", 15.77, (7, 0)).price_usd_per_hour == CARDS["V100-16GB"].price_usd_per_hour
    other = closest_gpu("NVIDIA GeForce RTX 3090", 23.7, (8, 6))
    assert (other.dense_tflops, other.price_usd_per_hour) == (CARDS["A10G"].dense_tflops, None)
