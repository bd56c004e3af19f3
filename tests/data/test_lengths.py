"""How long inputs and answers may be."""

import numpy as np
import pytest

from job.data.lengths import LengthLimits, check_truncation, choose_lengths, measure_truncation
from job.errors import DataError, SettingsError

SOURCES, TARGETS = list(range(1, 101)), [10] * 90 + [50] * 10
FREE = LengthLimits(None, None, shared=False)


def test_auto_is_as_long_as_the_data_needs():
    assert choose_lengths((SOURCES, SOURCES), (TARGETS, TARGETS), ("auto", "auto"), FREE) == (100, 50)


def test_auto_does_not_go_beyond_what_the_model_was_made_for():
    assert choose_lengths((SOURCES, SOURCES), (TARGETS, TARGETS), ("auto", "auto"), LengthLimits(64, None, shared=False)) == (
        64,
        50,
    )


def test_percentiles_are_numpys():
    wanted = (int(np.percentile(SOURCES, 85)), int(np.percentile(TARGETS, 90)))
    assert choose_lengths((SOURCES, SOURCES), (TARGETS, TARGETS), ("p85", "p90"), FREE) == wanted == (85, 14)


def test_a_number_is_taken_as_it_is_unless_the_data_is_shorter():
    assert choose_lengths((SOURCES, SOURCES), (TARGETS, TARGETS), ("30", "200"), LengthLimits(64, None, shared=False)) == (30, 50)


def test_a_causal_model_shares_its_positions_between_input_and_answer():
    assert choose_lengths((SOURCES, SOURCES), (TARGETS, TARGETS), ("auto", "auto"), LengthLimits(120, 120, shared=True)) == (70, 50)
    with pytest.raises(
        SettingsError, match=r"MAX_SOURCE_LENGTH \+ MAX_TARGET_LENGTH: 140 tokens, but the model has positions for 120"
    ):
        choose_lengths((SOURCES, SOURCES), (TARGETS, TARGETS), ("90", "auto"), LengthLimits(120, 120, shared=True))


def test_more_than_the_positions_is_refused():
    with pytest.raises(SettingsError, match="MAX_SOURCE_LENGTH: 90 tokens, but the model has positions for 80"):
        choose_lengths((SOURCES, SOURCES), (TARGETS, TARGETS), ("90", "auto"), LengthLimits(80, 80, shared=False))


def test_what_is_cut_is_counted():
    cut = measure_truncation([5, 12, 20], [3, 4, 9], (10, 4))
    assert (cut.sources_cut, cut.source_tokens_cut, cut.targets_cut, cut.target_tokens_cut) == (2, 12, 1, 5)
    assert "cut: 2 inputs (12 tokens), 1 answers (5 tokens, their end marker lost)" in cut.describe("training rows")


def test_the_allowed_share_of_cut_answers_is_a_bound():
    cut = measure_truncation([1] * 100, [5] * 99 + [6], (1, 5))
    check_truncation(cut, 0.01, "truncate", "training rows")
    with pytest.raises(DataError, match=r"1 of 100 answers \(1.0%\)"):
        check_truncation(cut, 0.009, "truncate", "training rows")
    check_truncation(cut, 0.0, "drop", "training rows")
