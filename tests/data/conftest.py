"""What is to be prepared: forty rows for the embedded tokenizer."""

import pytest

from job.data.column_mapping import ColumnMapping
from job.data.data_config import DataConfig, ModelSpec
from job.data.lengths import LengthLimits
from job.tables.table import Source


@pytest.fixture
def reader(tokenizer) -> ModelSpec:
    return ModelSpec(tokenizer, True, LengthLimits(512, None, shared=False))


@pytest.fixture
def request_(write_rows, questions) -> DataConfig:
    return DataConfig(
        train=Source("TRAIN_DATA", str(write_rows(questions))),
        evaluation=None,
        columns=ColumnMapping("input", "output_ground_truth", "messages", "Input: {input}"),
        eval_fraction=0.2,
        seed=42,
        max_lengths=("auto", "auto"),
        too_long="truncate",
        max_truncated_targets=0.01,
        num_proc=1,
    )
