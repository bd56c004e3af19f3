"""tests/preflight/test_precision.py has what a model in float32 is held to; here what it costs."""

import torch

from job.preflight.full_precision import in_float32
from tests.tiny_models import adapted, load


def test_matrices_stay_narrow_and_everything_is_as_it_was_afterwards(t5_folder):
    model = adapted(load(t5_folder, torch.bfloat16), torch.bfloat16)
    before = {name: parameter.data for name, parameter in model.named_parameters()}
    layer = model.get_encoder().block[0].layer[1].DenseReluDense.wi_0
    with in_float32(model):
        assert layer.weight.dtype == torch.bfloat16, "no second model is in memory"
        assert model.get_encoder().final_layer_norm.weight.dtype == torch.float32
        assert layer(torch.ones(1, layer.in_features)).dtype == torch.float32
    assert all(parameter.data is before[name] or parameter.data_ptr() == before[name].data_ptr()
               for name, parameter in model.named_parameters())  # fmt: skip
