"""The frozen blocks of a base spread over the ranks: each holds a part, and gathers a block while it computes it.

The adapter, embeddings and output head stay whole on every rank, so that gradients, optimizer, checkpoints and what is saved are
those of one GPU. Every rank has to compute as many forward passes as the others.
"""

from peft import PeftModel
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from job.model.checkpointing import transformer_blocks


def shard_base(model: PeftModel, device: str, world_size: int) -> None:
    """Shards the blocks of `model`, which may lie in the machine's memory, over the ranks' devices ("cuda" or "cpu")."""
    mesh = init_device_mesh(device, (world_size,))
    base = model.get_base_model()
    adapter = {parameter for parameter in model.parameters() if parameter.requires_grad}
    for block in transformer_blocks(base):
        fully_shard(block, mesh=mesh, ignored_params=adapter, reshard_after_forward=True)
    whole = {parameter for parameter in base.parameters() if not isinstance(parameter, DTensor)}
    fully_shard(base, mesh=mesh, ignored_params=whole)
    for parameter in whole:
        parameter.data = parameter.data.to(mesh.device_type)
    for name, buffer in base.named_buffers():
        owner, _, key = name.rpartition(".")
        base.get_submodule(owner)._buffers[key] = buffer.to(mesh.device_type)


def is_sharded(model: PeftModel) -> bool:
    """Whether `shard_base` was called on `model`."""
    return isinstance(getattr(model, "get_base_model", lambda: model)(), FSDPModule)
