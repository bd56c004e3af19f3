"""The peak GPU memory of a training step, from a model's shape: a formula, held against `simulate` and against real runs.

Bytes that a block keeps for the backward pass, a token, with dropout and LoRA on q and v, as counted on torch 2.10 and
transformers 5.23. b is the width of the base's type.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from job.model.objective import chunk_tokens
from job.plan.dimensions import ModelDimensions
from job.system.hardware import GIB

WIDTH = {"fp32": 4, "fp16": 2, "bf16": 2}
NF4_WIDTH = 0.516
"""Bytes a parameter, with its doubly quantised scales."""
CONTEXT_BYTES = 0.45 * GIB
FRAGMENTATION = 0.07
ADAPTER_WIDTH = 16
"""float32 weight, gradient and two moments of AdamW."""


@dataclass(frozen=True)
class TrainingPlan:
    """How a model is held in memory and trained."""

    precision: str
    """"fp32", "fp16" or "bf16": the type of what is not quantised."""
    quantization: str
    """"none", "nf4" or "int8"."""
    micro_batch: int
    """Rows at once."""
    checkpointed_blocks: int
    """Blocks that keep their input alone and are recomputed in the backward pass, counted from the first."""
    padding_free: bool = False
    """Whether the rows of a batch are packed one after another."""
    shards: int = 1
    """GPUs that the base's blocks are spread over."""


@dataclass(frozen=True)
class Batch:
    """The longest batch that a step may see, padded."""

    rows: int
    source_length: int
    target_length: int
    """0 for a causal model, whose prompt and answer are one sequence of `source_length`."""


def peak_bytes(dimensions: ModelDimensions, plan: TrainingPlan, source_length: int, target_length: int, r: int) -> float:
    """What the GPU must have: weights, adapter, activations of the longest batch, CUDA's own, and what fragments."""
    batch = Batch(plan.micro_batch, source_length, target_length)
    return with_overhead(static_bytes(dimensions, plan, r) + activation_bytes(dimensions, plan, batch))


def with_overhead(allocated_bytes: float) -> float:
    """What the GPU must have for so many bytes of tensors."""
    return allocated_bytes * (1 + FRAGMENTATION) + CONTEXT_BYTES


def static_bytes(dimensions: ModelDimensions, plan: TrainingPlan, r: int) -> float:
    """What is there between two steps: weights, adapter, optimizer; of a sharded base also two blocks that are gathered."""
    weights = weights_bytes(dimensions, plan.precision, plan.quantization)
    if plan.shards > 1:
        blocks = weights - dimensions.embeddings * WIDTH[plan.precision]
        weights += blocks / plan.shards + 2 * blocks / dimensions.blocks - blocks
    return weights + ADAPTER_WIDTH * dimensions.adapter(r)


def generation_bytes(dimensions: ModelDimensions, precision: str, batch: Batch) -> float:
    """What answering `batch.rows` inputs at once takes beside what is held: keys and values of all blocks, one block's
    activations, one token's logits."""
    b, tokens = WIDTH[precision], batch.source_length + batch.target_length
    keys_and_values = 2 * b * dimensions.key_value * dimensions.layers * tokens
    block = batch.source_length * (4 * b * dimensions.width + 4 * b * dimensions.attention + 3 * b * dimensions.inner)
    return batch.rows * (keys_and_values + block + dimensions.vocabulary * (b + 4))


def loss_bytes(dimensions: ModelDimensions, precision: str, batch: Batch) -> float:
    """What the loss of `batch.rows` answers at once takes: their logits, and these in float32, twice."""
    predicted = batch.target_length + (0 if dimensions.seq2seq else batch.source_length)
    return batch.rows * predicted * dimensions.vocabulary * (WIDTH[precision] + 8)


def weights_bytes(dimensions: ModelDimensions, precision: str, quantization: str) -> float:
    """The base model's. T5's `wo` stays in float32 beside fp16, and is quantised with the rest in NF4."""
    width = WIDTH[precision]
    linear = {"none": width, "nf4": NF4_WIDTH, "int8": 1.01}[quantization]
    output = linear
    if dimensions.is_t5 and quantization != "nf4":
        output = 4 if precision == "fp16" else width
    others = dimensions.linears - dimensions.output_projections
    return others * linear + dimensions.output_projections * output + dimensions.embeddings * width


def activation_bytes(dimensions: ModelDimensions, plan: TrainingPlan, batch: Batch) -> float:
    """What a step keeps for its backward pass; for checkpointed blocks their input, and one of them while it is computed again."""
    b = WIDTH[plan.precision]
    blocks = _block_bytes(dimensions, b, batch)
    tokens = batch.rows * max(batch.source_length, batch.target_length)
    inputs = [b * dimensions.width * tokens] * plan.checkpointed_blocks
    again = 0.0
    if plan.checkpointed_blocks:
        again = max(blocks[: plan.checkpointed_blocks]) + 3 * b * batch.rows * batch.source_length * dimensions.inner
    answers = batch.rows * (batch.target_length if dimensions.seq2seq else batch.source_length)
    logits = (
        min(answers, chunk_tokens(dimensions.vocabulary)) * dimensions.vocabulary * (12 - b) + 2 * answers * b * dimensions.width
    )
    dequantised = b * dimensions.inner * dimensions.width if plan.quantization != "none" else 0
    return sum(blocks[plan.checkpointed_blocks :]) + sum(inputs) + max(again, logits) + dequantised


def _block_bytes(dimensions: ModelDimensions, b: int, batch: Batch) -> Sequence[float]:
    """What each block keeps, the encoder's first."""
    d, di, rows, source, target = dimensions.width, dimensions.attention, batch.rows, batch.source_length, batch.target_length
    if not dimensions.seq2seq:
        length = source + target
        token = 19 * d + 4.3 * b * di + 3.1 * b * dimensions.inner + 0.2 * dimensions.heads * length
        return [rows * length * token] * dimensions.layers
    gelu = (3 * b + 1) * dimensions.inner
    encoder = 2 * (b + 4) * d + 12 * d + 4 * b * di + gelu + b * dimensions.heads * source
    crossing = 5 * d + 2 * b * di
    decoder = 3 * (b + 4) * d + 18 * d + 6 * b * di + gelu + b * dimensions.heads * (target + source)
    return [rows * source * encoder] * dimensions.layers + [rows * (target * decoder + source * crossing)] * dimensions.layers
