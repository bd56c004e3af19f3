"""The formula of the memory against the simulated step, against the tensors of a loaded model, and by hand."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from job.config.libraries import weight_format
from job.model.load import BaseModel, load_base
from job.model.targets import choose_targets
from job.plan.dimensions import read_dimensions
from job.plan.memory import (
    Batch,
    TrainingPlan,
    activation_bytes,
    generation_bytes,
    loss_bytes,
    peak_bytes,
    static_bytes,
    weights_bytes,
    with_overhead,
)
from job.plan.model_catalogue import known_config
from job.plan.simulate import simulate_training_step
from job.system.hardware import GIB


def flan(size: str):
    return known_config(f"google/flan-t5-{size}")


QV = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM")


LLAMA_QV = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


qv, llama_qv = (partial(get_peft_model, peft_config=config) for config in (QV, LLAMA_QV))


@pytest.mark.slow
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


def test_memory_grows_with_rows_lengths_and_width_and_shrinks_with_checkpointing():
    dimensions = read_dimensions(flan("xl"))
    growing = [peak_bytes(dimensions, TrainingPlan("bf16", "none", rows, 0), 256, 56, 16) for rows in (1, 2, 4, 8)]
    longer = [peak_bytes(dimensions, TrainingPlan("bf16", "none", 1, 0), length, 56, 16) for length in (64, 256, 512)]
    saving = [-peak_bytes(dimensions, TrainingPlan("bf16", "none", 8, blocks), 256, 56, 16) for blocks in range(1, 49)]
    assert all(before < after for series in (growing, longer, saving) for before, after in pairwise(series))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_the_weights_take_what_those_of_a_loaded_model_take(kind, precision, request):
    folder = request.getfixturevalue(kind)
    model = load_base(BaseModel(str(folder)), kind == "t5_folder", *weight_format(precision, "none"), "cpu")
    found = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    assert weights_bytes(read_dimensions(model.config), precision, "none") == found


def test_quantised_weights_by_hand():
    """FLAN-T5 small: 16 blocks x 1024 x 512 in `wo`; 2 x 32128 x 512 in embedding and head, 42 norms of 512, 2 x 32 x 6 biases of
    positions; 76,961,152 in all."""
    dimensions = read_dimensions(flan("small"))
    wo, tables = 8_388_608, 32_899_072 + 42 * 512 + 384
    others = 76_961_152 - wo - tables
    assert weights_bytes(dimensions, "fp16", "nf4") == pytest.approx(0.516 * (others + wo) + 2 * tables)
    assert weights_bytes(dimensions, "fp32", "nf4") == pytest.approx(0.516 * (others + wo) + 4 * tables)
    assert weights_bytes(dimensions, "fp16", "int8") == pytest.approx(1.01 * others + 4 * wo + 2 * tables)
    assert weights_bytes(dimensions, "bf16", "int8") == pytest.approx(1.01 * others + 2 * wo + 2 * tables)


def test_the_adapter_takes_sixteen_bytes_a_parameter_between_two_steps():
    dimensions = read_dimensions(flan("small"))
    plan = TrainingPlan("bf16", "none", 8, 0)
    assert static_bytes(dimensions, plan, 16) - weights_bytes(dimensions, "bf16", "none") == 16 * 688_128


def test_answering_takes_keys_values_a_blocks_activations_and_a_tokens_logits_by_hand():
    """FLAN-T5 XL in bf16, 512 tokens in, 100 out, a row: 2 x 2 x 2048 x 24 x 612, 512 x 63,488 and 32128 x 6."""
    found = generation_bytes(read_dimensions(flan("xl")), "bf16", Batch(3, 512, 100))
    assert found == 3 * (120_324_096 + 32_505_856 + 192_768)


def test_the_loss_takes_the_logits_of_the_answer_or_of_a_causal_models_whole_row():
    causal = LlamaConfig(vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
    assert loss_bytes(read_dimensions(flan("small")), "bf16", Batch(2, 512, 100)) == 2 * 100 * 32128 * 10
    assert loss_bytes(read_dimensions(causal), "fp32", Batch(2, 512, 100)) == 2 * 612 * 1000 * 12


def test_the_gpu_needs_more_than_the_tensors():
    assert with_overhead(0) == 0.45 * GIB
    assert with_overhead(10 * GIB) == pytest.approx(11.15 * GIB)


S = {"d_model": 512, "encoder_layers": 3, "decoder_layers": 2, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 1024, "vocab_size": 8000,
     "encoder_attention_heads": 8, "decoder_attention_heads": 4}  # fmt: skip
H = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4,
     "vocab_size": 8000}  # fmt: skip
GEMMA = H | {"head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 128}
ESTIMATED = {
    "bart": S,
    "pegasus": S,
    "longt5": {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 2, "num_heads": 6, "vocab_size": 8000,
               "feed_forward_proj": "gated-gelu", "encoder_attention_type": "transient-global"},
    "umt5": {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 2, "num_heads": 6, "vocab_size": 8000},
    "prophetnet": {"hidden_size": 512, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048, "num_encoder_layers": 2,
                   "vocab_size": 8000, "num_decoder_layers": 2, "num_encoder_attention_heads": 8, "num_decoder_attention_heads": 8},
    "t5gemma": {"encoder": GEMMA, "decoder": GEMMA | {"hidden_size": 256, "num_hidden_layers": 3}, "vocab_size": 8000},
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "gpt2": {"n_embd": 512, "n_layer": 2, "n_head": 8, "vocab_size": 8000},
    "mixtral": H | {"num_local_experts": 4},
    "deepseek_v3": H | {"num_key_value_heads": 8, "q_lora_rank": 256, "kv_lora_rank": 128, "n_routed_experts": 8, "n_group": 4,
                        "num_experts_per_tok": 4, "topk_group": 2, "moe_intermediate_size": 512, "first_k_dense_replace": 1,
                        "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, "v_head_dim": 64},
    "mamba": {"hidden_size": 512, "num_hidden_layers": 1, "vocab_size": 8000},
    "mamba2": {"hidden_size": 512, "num_hidden_layers": 2, "num_heads": 16, "head_dim": 64, "n_groups": 1, "vocab_size": 8000},
    "lfm2": H | {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": H | {"head_dim": 64, "layer_types": ["linear_attention", "full_attention"], "num_experts": 8,
                       "num_experts_per_tok": 2, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Accessing the data pointer")  # transformers looks at that of experts
@pytest.mark.parametrize("kind", ESTIMATED)
def test_where_the_formula_is_an_estimate_it_is_rather_too_high_than_too_low(kind):
    """Against the simulated step, whose kernels are torch's own."""
    config = CONFIG_MAPPING[kind](pad_token_id=0, bos_token_id=0, eos_token_id=1, **ESTIMATED[kind])
    batch = Batch(2, 256, 64 if config.is_encoder_decoder else 0)  # recurrent blocks pad to 256

    def adapt(model):
        task = "SEQ_2_SEQ_LM" if config.is_encoder_decoder else "CAUSAL_LM"
        return get_peft_model(
            model, LoraConfig(task_type=task, r=16, lora_dropout=0.05, target_modules=choose_targets(("auto",), model))
        )

    simulated, dimensions = simulate_training_step(config, adapt, torch.bfloat16, batch), read_dimensions(config)
    formula = static_bytes(dimensions, plan := TrainingPlan("bf16", "none", 2, 0), 16) + activation_bytes(dimensions, plan, batch)
    lowest = 0.97 if dimensions.is_estimate else 0.9
    assert lowest < formula / simulated.peak < 2.5
