"""Speed and padding, counted by hand."""

import pytest
import torch

from job.system.ranks import Ranks
from job.training.telemetry import Telemetry


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, to be moved on."""
    moment = [100.0]
    monkeypatch.setattr("job.training.telemetry.time.perf_counter", lambda: moment[0])
    return moment


def test_a_padded_encoder_decoder_batch_by_hand(clock):
    """Inputs of 3 and 1 tokens in 2 x 4 places, answers of 2 and 1 in 2 x 2: 7 tokens in 12 places, in 2 s."""
    telemetry = Telemetry()
    telemetry.count({
        "input_ids": torch.zeros(2, 4), "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]),
        "labels": torch.tensor([[5, 1], [1, -100]]), "decoder_input_ids": torch.zeros(2, 2),
    })  # fmt: skip
    clock[0] += 2
    found = telemetry.read(Ranks())
    assert (found["examples_per_second"], found["tokens_per_second"]) == (1, 3.5)
    assert found["padding_share"] == pytest.approx(5 / 12)
    assert found["peak_memory_gib"] > 0.05


def test_a_causal_models_labels_are_the_same_tokens_and_packed_rows_have_no_padding(clock):
    telemetry = Telemetry()
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    telemetry.count({"input_ids": torch.zeros(2, 3), "attention_mask": mask, "labels": torch.zeros(2, 3)})
    telemetry.count({"input_ids": torch.zeros(1, 5), "attention_mask": mask, "labels": torch.zeros(1, 5), "slots": torch.zeros(5)})
    clock[0] += 1
    found = telemetry.read(Ranks())
    assert (found["examples_per_second"], found["tokens_per_second"]) == (4, 10)
    assert found["padding_share"] == pytest.approx(1 / 11)


def test_each_reading_begins_anew(clock):
    telemetry = Telemetry()
    telemetry.count({"input_ids": torch.zeros(2, 3), "attention_mask": torch.ones(2, 3)})
    clock[0] += 1
    telemetry.read(Ranks())
    clock[0] += 1
    assert telemetry.read(Ranks())["examples_per_second"] == 0


def test_a_reading_is_of_all_ranks(clock):
    """Two ranks with 2 and 6 rows, 6 and 30 places, 5 and 20 tokens in 2 s; the larger peak counts."""

    class Two(Ranks):
        def gather(self, value):
            return [value, (6, 30, 20, 7 * 2**40)]

    telemetry = Telemetry()
    telemetry.count({"input_ids": torch.zeros(2, 3), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])})
    clock[0] += 2
    found = telemetry.read(Two())
    assert (found["examples_per_second"], found["tokens_per_second"], found["peak_memory_gib"]) == (4, 12.5, 7 * 1024)
    assert found["padding_share"] == pytest.approx(11 / 36)
