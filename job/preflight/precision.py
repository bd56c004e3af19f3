"""Whether the type of a base's weights is sound for this model and this data: the longest row in it, against float32."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import BatchEncoding

from job.errors import Diverged
from job.model.checkpointing import recomputing_in_evaluation
from job.model.lora import HALF
from job.model.objective import Objective
from job.model.packing import labelled_places
from job.preflight.memory import SHORTEST
from job.system.gpu_errors import one_name_for_full_memory
from job.system.hardware import free_memory
from job.system.onednn import linear
from job.system.quick_bitsandbytes import bitsandbytes

log = logging.getLogger(__name__)

LOSS_TOLERANCE, LEAST_COSINE = 0.05, 0.9
"""What rounding to half precision stays well within, for a sound model; an overflow is off by its whole size."""
LARGEST_SCALE = 2.0**16
"""Of the loss, as the loss scaler begins; small gradients would vanish in float16 without."""
MATMULS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, Tensor.__rmatmul__)

LossAndGradient = tuple[float, Tensor]


def check_precision(model: PeftModel, batch: BatchEncoding) -> None:
    """Raises Diverged if loss or gradient of `batch` are not what they are in float32, naming the layer that overflows first.

    batch: of a padding collator. The same weights are used in float32, a layer at a time, so that no second model is in memory but
    for fused experts, which are widened as a whole. Rows that do not fit beside that are cut. Quantised layers stay quantised and
    compute in float32.
    """
    while (measured := _in_both(model, batch)) is None:
        free_memory()
        length = max(tensor.shape[1] for tensor in batch.values() if tensor.dim() > 1)
        if length <= SHORTEST:
            return log.warning("precision: a float32 comparison does not fit the memory; %s is not checked", model.dtype)
        cut = {name: tensor[:, -(length // 2) :] for name, tensor in batch.items() if tensor.dim() > 1}
        places = labelled_places(cut["labels"], shift=not model.config.is_encoder_decoder)
        batch = BatchEncoding(cut | {"labelled": places})
    (loss, gradient), (expected_loss, expected), overflowing = measured
    cosine = F.cosine_similarity(gradient, expected, dim=0).item()
    if not overflowing and abs(loss - expected_loss) <= LOSS_TOLERANCE * expected_loss and cosine >= LEAST_COSINE:
        return  # transformers clamps what overflows in a T5, to a finite but wrong value: so an overflow alone is too much
    where = f" {overflowing} is the first layer that overflows." if overflowing else ""
    raise Diverged(
        f"{str(model.dtype).removeprefix('torch.')} is not sound for this model: on the longest row the loss is {loss:.4g}, in "
        f"float32 {expected_loss:.4g}; the gradients' cosine is {cosine:.2f}.{where} Set PRECISION=fp32, or bf16 if the GPU has it."
    )


def _in_both(model: PeftModel, batch: BatchEncoding) -> tuple[LossAndGradient, LossAndGradient, str | None] | None:
    """What `batch` gives in the type of the weights and in float32, and the module whose output is the first in the former that is
    not finite; None where that does not fit the memory."""
    was_training = model.training
    model.eval()  # no dropout: both sides see the same
    try:
        objective = Objective(model)
        with _overflows(model) as first:
            found = loss_and_gradient(model, batch, objective)
        with in_float32(model) as widened:
            return found, loss_and_gradient(model, batch, objective, widened), first()
    except torch.OutOfMemoryError:
        return None
    finally:
        model.train(was_training)


@one_name_for_full_memory()
def loss_and_gradient(
    model: PeftModel, batch: BatchEncoding, objective: Objective, within: Callable[[], Any] = contextlib.nullcontext
) -> LossAndGradient:
    """Loss, and gradient of the adapter as one vector.

    within: the mode that this is called in, for blocks that are recomputed.
    Takes no more memory than a training step, which recomputes the same blocks and has no more logits at once.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with recomputing_in_evaluation(model, within):
        loss = objective(model, batch) / max(1, len(batch["labelled"]))
    scale, gradient = LARGEST_SCALE, torch.full((1,), float("nan"))
    while scale >= 1:
        gradients = torch.autograd.grad(loss * scale, trained, retain_graph=scale > 1, materialize_grads=True)
        gradient = torch.cat([part.flatten().float() for part in gradients]) / scale
        if torch.isfinite(gradient).all():
            break
        scale /= 16
    return loss.item(), gradient


@contextlib.contextmanager
def _overflows(model: nn.Module) -> Iterator[Callable[[], str | None]]:
    """While this holds, looks at what modules put out; gives what tells which was the first to put out something not finite."""
    names: list[str] = []
    finite: list[Tensor] = []

    def watch(name: str) -> Callable:
        def look(_module: nn.Module, _inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and output.is_floating_point():
                names.append(name.removeprefix("base_model.model."))
                finite.append(torch.isfinite(output.detach()).all())

        return look

    def first() -> str | None:
        found = torch.stack(finite).tolist()  # all at once: a GPU is waited for once
        return names[found.index(False)] if False in found else None

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        yield first
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def in_float32(model: nn.Module) -> Iterator[Callable[[], TorchFunctionMode]]:
    """While this holds, `model` computes in float32 with the weights that it has; gives the mode that does, for recomputing.

    Linear layers widen theirs for a moment only; all other weights, fused experts among them, are widened until the end. Raises
    torch.OutOfMemoryError.
    """
    frozen = [parameter for parameter in model.parameters() if parameter.dtype in HALF and not parameter.requires_grad]
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    small = {parameter: parameter.data for parameter in frozen if id(parameter) not in matrices}
    quantised: dict[Any, Any] = {
        module: module.compute_dtype for module in model.modules() if getattr(module, "compute_dtype", None) is not None
    }
    products = torch.get_float32_matmul_precision()
    try:
        for parameter in small:
            parameter.data = parameter.data.float()
        for module in quantised:
            module.compute_dtype = torch.float32
        torch.set_float32_matmul_precision("highest")
        with _int8_as_ever(model), _WidenProducts():
            yield _WidenProducts
    finally:
        torch.set_float32_matmul_precision(products)
        for parameter, data in small.items():
            parameter.data = data
        for module, dtype in quantised.items():
            module.compute_dtype = dtype


@contextlib.contextmanager
def _int8_as_ever(model: nn.Module) -> Iterator[None]:
    """While this holds, int8 layers compute without `_WidenProducts`: they round from float16, by a cast of their own."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear8bitLt)]

    def apart(forward: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            return forward(rows)

    for layer in layers:
        layer.forward = partial(apart, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class _WidenProducts(TorchFunctionMode):
    """Linear layers with half precision weights are computed by `_WideProduct`, and nothing is cast down to the type of these.

    A head that is tied to the embedding is one of them: what is looked up in it is widened.
    """

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        if function in MATMULS:
            args = tuple(factor.float() if factor.dtype in HALF else factor for factor in args)
        if function is F.embedding and args[1].dtype in HALF:
            return function(*args, **(kwargs or {})).float()
        if function is F.linear and args[1].dtype in HALF and not args[1].requires_grad:
            return _wide_linear(*args, **(kwargs or {}))
        if function is torch.Tensor.to and len(args) == 2 and args[1] in HALF and args[0].dtype == torch.float32:
            return args[0]  # T5 casts to the type of `wo`'s weights
        return function(*args, **(kwargs or {}))


def _wide_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # noqa: A002  F.linear's own name
    found = _WideProduct.apply(input, weight)
    return found if bias is None else found + bias.float()


class _WideProduct(torch.autograd.Function):
    """`rows @ weight.T` in float32; what is kept for the backward pass is the narrow weight, frozen."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return linear(rows.float(), weight.float())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return linear(gradient, weight.float().T), None
