"""The tables of docs/speed.md are what was measured."""

import json

from bench.packing import MODELS
from bench.show import BEGIN, END, PAGE, RESULTS, read_results, with_tables


def test_the_page_of_speed_has_the_tables_of_the_results():
    results = read_results()
    assert results
    assert PAGE.read_text() == with_tables(PAGE.read_text(), results), "run: python -m bench.show"
    assert all(f"| {row['name']} |" in PAGE.read_text() for result in results for row in result["table"])


def test_the_page_of_speed_has_one_place_for_the_tables():
    """Without its marks the tables would be written at the end of the page, once more each time."""
    assert (PAGE.read_text().count(BEGIN), PAGE.read_text().count(END)) == (1, 1)


def test_the_page_of_speed_has_the_ratios_of_packed_rows():
    table = json.loads((RESULTS / "packing-x86_64-CPU.json").read_text())["table"]
    assert [row["model"] for row in table] == list(MODELS)
    for row in table:
        low, high = row["ratio_spread"]
        assert f"| {row['model']} | **{row['ratio']:.2f}** ({low:.2f} to {high:.2f}) |" in PAGE.read_text()
