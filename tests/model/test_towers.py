"""The parts of a model that text does not pass, by their names in the tiny models of the zoo."""

import pytest
from torch import nn

from job.model.towers import towers
from tests.zoo.families import FAMILIES


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("gemma3_with_vision", {"model.vision_tower", "model.multi_modal_projector"}),
        ("t5gemma2", {"model.encoder.vision_tower", "model.encoder.multi_modal_projector"}),
        ("llama", set()),
        ("flan_t5", set()),
    ],
)
def test_towers_and_their_projectors_are_found_with_all_that_is_in_them(family, expected):
    model, _ = FAMILIES[family]()
    names = {name for name, _ in model.named_modules()}
    inside = {name for name in names for root in expected if name == root or name.startswith(f"{root}.")}
    assert expected <= names
    assert towers(model) == inside


def test_a_part_is_known_by_its_name_where_it_is_no_model_of_its_own():
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)]), "audio_projection": nn.Sequential(nn.Linear(2, 2))})
    assert towers(model) == {"audio_projection", "audio_projection.0"}
