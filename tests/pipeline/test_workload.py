"""The workload of data and of settings, against numpy on rows whose lengths are given."""

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from job.config.settings import Settings
from job.pipeline.workload import assume_workload, measure_workload

SOURCES = np.array([3, 5, 5, 8, 9, 11, 17, 20, 21, 90])
TARGETS = np.array([1, 2, 2, 3, 3, 4, 4, 5, 6, 33])
CAUSAL = SOURCES + TARGETS


def prepared(sources: np.ndarray, targets: np.ndarray) -> SimpleNamespace:
    """Prepared training rows of these lengths in tokens."""
    columns = {"input_ids": sources, "labels": targets}
    return SimpleNamespace(train=Dataset.from_dict({name: [[7] * n for n in lengths] for name, lengths in columns.items()}))


def test_lengths_of_an_encoder_decoder_are_those_of_numpy():
    found = measure_workload(Settings(), prepared(SOURCES, TARGETS), seq2seq=True)
    assert found.mean == (SOURCES.mean(), TARGETS.mean()) == (18.9, 6.3)
    assert found.percentiles == ((10, 58, 90), (3, 20, 33)), "(9 + 11) / 2; 21 + 0.55 x 69; 6 + 0.55 x 27, rounded down"
    assert found.percentiles[0][1] == int(np.percentile(SOURCES, 95))
    assert found.longest == (96, 40), "the next multiples of 8"


def test_a_causal_models_rows_are_one_sequence_and_have_no_answers_beside_it():
    found = measure_workload(Settings(), prepared(CAUSAL, CAUSAL), seq2seq=False)
    assert found.mean == (CAUSAL.mean(), 0)
    assert found.percentiles == ((13, int(np.percentile(CAUSAL, 95)), 123), (0, 0, 0)), "(12 + 15) / 2, rounded down"
    assert found.longest == (128, 0)


@pytest.mark.parametrize(
    ("asked", "row_passes"),
    [({}, 50), ({"num_train_epochs": 2.5}, 25), ({"max_steps": 3}, 24), ({"max_steps": 3, "effective_batch_size": 2}, 6)],
)
def test_row_passes_count_epochs_or_steps(asked, row_passes):
    found = measure_workload(Settings(**asked), prepared(SOURCES, TARGETS), seq2seq=True)
    assert found.row_passes == row_passes
    assert found.effective_batch_size == asked.get("effective_batch_size", 8)


def test_the_rank_is_the_adapters():
    assert measure_workload(Settings(lora_r=3), prepared(SOURCES, TARGETS), seq2seq=True).r == 3


def test_what_is_assumed_is_what_the_settings_say():
    asked = Settings(plan_source_lengths="100/200/250", plan_target_lengths="10/20/24", plan_rows=300, num_train_epochs=2)
    found = assume_workload(asked, seq2seq=True)
    assert found.percentiles == ((100, 200, 250), (10, 20, 24))
    assert (found.longest, found.row_passes) == ((256, 24), 600)


def test_an_assumed_row_of_a_causal_model_is_prompt_and_answer():
    asked = Settings(plan_source_lengths="100/200/250", plan_target_lengths="10/20/24")
    found = assume_workload(asked, seq2seq=False)
    assert found.percentiles == ((110, 220, 274), (0, 0, 0))
    assert (found.longest, found.mean[1]) == ((280, 0), 0)


def test_lengths_that_are_given_mean_what_a_list_of_such_lengths_has():
    """A sample with that median, 95th percentile and longest, evenly in between, and from half the median on."""
    sample = np.concatenate([np.linspace(75, 150, 500), np.linspace(150, 220, 450), np.linspace(220, 256, 50)])
    assert assume_workload(Settings(), seq2seq=True).mean[0] == pytest.approx(sample.mean(), rel=1e-3)
