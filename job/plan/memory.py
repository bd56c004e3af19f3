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
STATES = 4 * 5
"""Bytes that a Mamba's step keeps for each number of its state and each token: five float32, without a kernel of its own."""
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
    b, tokens, reader = WIDTH[precision], batch.source_length + batch.target_length, dimensions.stacks[0]
    keys_and_values = 2 * b * dimensions.decoder.key_value * dimensions.decoder.layers * tokens
    block = batch.source_length * (4 * b * reader.width + 4 * b * reader.attention + 3 * b * reader.inner)
    return batch.rows * (keys_and_values + block + dimensions.vocabulary * (b + 4))


def loss_bytes(dimensions: ModelDimensions, precision: str, batch: Batch) -> float:
    """What the loss of `batch.rows` answers at once takes: their logits, and these in float32, twice."""
    predicted = batch.target_length + (0 if dimensions.seq2seq else batch.source_length)
    return batch.rows * predicted * dimensions.vocabulary * (WIDTH[precision] + 8)


def weights_bytes(dimensions: ModelDimensions, precision: str, quantization: str) -> float:
    """The base model's. T5's `wo` is quantised with the rest in NF4; int8 leaves it out, in float32 beside fp16."""
    width = WIDTH[precision]
    linear = {"none": width, "nf4": NF4_WIDTH, "int8": 1.01}[quantization]
    kept = linear
    if quantization == "int8":
        kept = 4 if precision == "fp16" else width
    others = dimensions.linears - dimensions.in_float32
    return others * linear + dimensions.in_float32 * kept + (dimensions.parameters - dimensions.linears) * width


def activation_bytes(dimensions: ModelDimensions, plan: TrainingPlan, batch: Batch) -> float:
    """What a step keeps for its backward pass; for checkpointed blocks their input, and one of them while it is computed again."""
    b, decoder = WIDTH[plan.precision], dimensions.decoder
    blocks = _block_bytes(dimensions, plan.precision, batch)
    inner = max(stack.inner for stack in dimensions.stacks)
    tokens = batch.rows * max(batch.source_length, batch.target_length)
    inputs = [b * dimensions.width * tokens] * plan.checkpointed_blocks
    again = 0.0
    if plan.checkpointed_blocks:
        again = max(blocks[: plan.checkpointed_blocks]) + 3 * b * batch.rows * batch.source_length * inner
    answers = batch.rows * (batch.target_length if dimensions.seq2seq else batch.source_length)
    logits = min(answers, chunk_tokens(dimensions.vocabulary)) * dimensions.vocabulary * (12 - b)
    if dimensions.all_logits:
        logits = answers * dimensions.vocabulary * (4 * b + 12)
    logits += 2 * answers * b * decoder.width
    dequantised = b * inner * dimensions.width if plan.quantization != "none" else 0
    return sum(blocks[plan.checkpointed_blocks :]) + sum(inputs) + max(again, logits) + dequantised


def _block_bytes(dimensions: ModelDimensions, precision: str, batch: Batch) -> Sequence[float]:
    """What each block keeps, the encoder's first."""
    rows, source, target, decoder = dimensions.caution * batch.rows, batch.source_length, batch.target_length, dimensions.decoder
    b, d, di = WIDTH[precision], decoder.width, decoder.attention
    norm = b + 2 if precision == "fp16" and dimensions.in_float32 else b  # T5 adds its blocks up in float32
    if dimensions.encoder is None:
        length = source + target
        token = (7 + 2 * norm) * d + 4.3 * b * di + 3.1 * b * decoder.inner + 0.2 * decoder.heads * length
        states = batch.rows * STATES * decoder.attention * decoder.state
        return [length * (rows * token + states)] * decoder.layers
    encoder = dimensions.encoder
    reading = 2 * norm * encoder.width + 12 * encoder.width + 4 * b * encoder.attention + (3 * b + 1) * encoder.inner
    reading += b * encoder.heads * source
    crossing = 5 * d + 2 * b * di
    writing = 3 * norm * d + 18 * d + 6 * b * di + (3 * b + 1) * decoder.inner + b * decoder.heads * (target + source)
    return [rows * source * reading] * encoder.layers + [rows * (target * writing + source * crossing)] * decoder.layers
