"""The peak GPU memory of a training step, from a model's shape: a formula, held against `simulate` and against real runs.

Bytes that a block keeps for the backward pass, a token, with dropout and LoRA on q and v, as counted on torch 2.10 and
transformers 5.23. b is the width of the base's type.
"""

from dataclasses import dataclass

from job.model.objective import chunk_tokens
from job.plan.shape import Shape
from job.plan.simulate import Batch

GIB = 2**30
WIDTH = {"fp32": 4, "fp16": 2, "bf16": 2}
NF4_WIDTH = 0.516
"""Bytes a parameter, with its doubly quantised scales."""
CONTEXT_BYTES = 0.45 * GIB
FRAGMENTATION = 0.07
ADAPTER_WIDTH = 16
"""float32 weight, gradient and two moments of AdamW."""


@dataclass(frozen=True)
class Way:
    """How a model is held and trained: what a plan chooses."""

    precision: str
    """"fp32", "fp16" or "bf16": the type of what is not quantised."""
    quantization: str
    """"none", "nf4" or "int8"."""
    micro_batch: int
    """Rows at once."""
    checkpointed_blocks: int
    """Blocks that keep their input alone and are computed twice, counted from the first."""
    padding_free: bool = False
    """Whether the rows of a batch are packed one after another."""


def peak_bytes(shape: Shape, way: Way, source_length: int, target_length: int, r: int) -> float:
    """What the GPU must have: weights, adapter, activations of the longest batch, CUDA's own, and what fragments."""
    batch = Batch(way.micro_batch, source_length, target_length)
    return on_gpu(held_bytes(shape, way, r) + activation_bytes(shape, way, batch))


def on_gpu(allocated_bytes: float) -> float:
    """What the GPU must have for so many bytes of tensors."""
    return allocated_bytes * (1 + FRAGMENTATION) + CONTEXT_BYTES


def held_bytes(shape: Shape, way: Way, r: int) -> float:
    """What is there between two steps: weights, adapter, optimizer."""
    return weights_bytes(shape, way.precision, way.quantization) + ADAPTER_WIDTH * shape.adapter(r)


def generation_bytes(shape: Shape, way: Way, batch: Batch) -> float:
    """What answering `batch.rows` inputs at once takes beside what is held: keys and values of all blocks, one block's
    activations, one token's logits."""
    b, tokens = WIDTH[way.precision], batch.source_length + batch.target_length
    keys_and_values = 2 * b * shape.key_value * shape.layers * tokens
    block = batch.source_length * (4 * b * shape.width + 4 * b * shape.attention + 3 * b * shape.inner)
    return batch.rows * (keys_and_values + block + shape.vocabulary * (b + 4))


def loss_bytes(shape: Shape, way: Way, batch: Batch) -> float:
    """What the loss of `batch.rows` answers at once takes: their logits, and these in float32, twice."""
    predicted = batch.target_length + (0 if shape.seq2seq else batch.source_length)
    return batch.rows * predicted * shape.vocabulary * (WIDTH[way.precision] + 8)


def weights_bytes(shape: Shape, precision: str, quantization: str) -> float:
    """The base model's. T5's `wo` stays in float32 beside fp16, and is quantised with the rest in NF4."""
    width = WIDTH[precision]
    linear = {"none": width, "nf4": NF4_WIDTH, "int8": 1.01}[quantization]
    output = linear
    if shape.is_t5 and quantization != "nf4":
        output = 4 if precision == "fp16" else width
    others = shape.linears - shape.output_projections
    return others * linear + shape.output_projections * output + shape.embeddings * width


def activation_bytes(shape: Shape, way: Way, batch: Batch) -> float:
    """What a step keeps for its backward pass; for checkpointed blocks their input, and one of them while it is computed again."""
    b = WIDTH[way.precision]
    blocks = _block_bytes(shape, b, batch)
    tokens = batch.rows * max(batch.source_length, batch.target_length)
    inputs = [b * shape.width * tokens] * way.checkpointed_blocks
    again = 0.0
    if way.checkpointed_blocks:
        again = max(blocks[: way.checkpointed_blocks]) + 3 * b * batch.rows * batch.source_length * shape.inner
    answers = batch.rows * (batch.target_length if shape.seq2seq else batch.source_length)
    logits = min(answers, chunk_tokens(shape.vocabulary)) * shape.vocabulary * (12 - b) + 2 * answers * b * shape.width
    dequantised = b * shape.inner * shape.width if way.quantization != "none" else 0
    return sum(blocks[way.checkpointed_blocks :]) + sum(inputs) + max(again, logits) + dequantised


def _block_bytes(shape: Shape, b: int, batch: Batch) -> list[float]:
    """What each block keeps, the encoder's first."""
    d, di, rows, source, target = shape.width, shape.attention, batch.rows, batch.source_length, batch.target_length
    if not shape.seq2seq:
        length = source + target
        token = 19 * d + 4.3 * b * di + 3.1 * b * shape.inner + 0.2 * shape.heads * length
        return [rows * length * token] * shape.layers
    gelu = (3 * b + 1) * shape.inner
    encoder = 2 * (b + 4) * d + 12 * d + 4 * b * di + gelu + b * shape.heads * source
    crossing = 5 * d + 2 * b * di
    decoder = 3 * (b + 4) * d + 18 * d + 6 * b * di + gelu + b * shape.heads * (target + source)
    return [rows * source * encoder] * shape.layers + [rows * (target * decoder + source * crossing)] * shape.layers
