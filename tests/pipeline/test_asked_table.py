"""A table to answer: its rows as prompts, what cannot be given back told before the first answer, answers in their rows."""

import csv
from pathlib import Path

import pytest

from job.data.answers import AnswerFile
from job.errors import DataError
from job.pipeline.asked_table import read_asked
from job.pipeline.trained_adapter import TrainedAdapter
from job.tables.destination import choose_destination
from job.tables.parts import ALL
from job.tables.table import Source


@pytest.fixture
def read(make_settings, finished_run):
    """Reads a file with the finished run's adapter."""

    def read(name: str, text: str, columns=("output",)):
        Path(name).write_text(text)
        source = Source("FILE", name, split=ALL)
        return read_asked(
            TrainedAdapter.of(make_settings()), source, choose_destination(source, f"answered-{name}", Path()), columns
        )

    return read


def test_answers_stand_in_the_rows_that_were_asked(read):
    asked = read("a.csv", "n,input\n1,x\n2,\n3,z\n")
    assert asked.rows == [0, 2]
    with AnswerFile(asked.destination.path) as answers:
        answers.resume("f")
        answers.add([1], {"output": ["of z"]})
        answers.add([0], {"output": ["of x"]})
        asked.give_back(answers)
    with Path("answered-a.csv").open(newline="") as file:
        assert [row["output"] for row in csv.DictReader(file)] == ["of x", "", "of z"]
    assert not list(Path().glob("*.partial.jsonl"))


def test_a_persons_own_column_keeps_its_name(read):
    assert read("a.csv", "input,output,output_2\nx,1,2\n", ("output", "confidence")).columns == ("output_3", "confidence")


def test_inputs_are_as_long_as_the_adapter_reads(read, caplog):
    asked = read("a.csv", f"input\n{'word ' * 1500}\nshort\n")
    assert len(asked.prompts[0]) == 512
    assert asked.prompts[0][-1] == 1, "the end marker stays"
    assert "1 of 2 inputs are longer than 512 tokens and are truncated, as in training" in caplog.text


def test_a_table_without_inputs_is_refused(read):
    with pytest.raises(DataError, match='the column "input" is empty in all 2 rows'):
        read("a.csv", "input,n\n,1\n,2\n")
