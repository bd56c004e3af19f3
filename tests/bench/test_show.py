"""The tables of docs/speed.md are what was measured."""

from bench.show import BEGIN, END, PAGE, read_results, with_tables


def test_the_page_of_speed_has_the_tables_of_the_results():
    results = read_results()
    assert results
    assert PAGE.read_text() == with_tables(PAGE.read_text(), results), "run: python -m bench.show"
    assert all(f"| {row['name']} |" in PAGE.read_text() for result in results for row in result["table"])


def test_the_page_of_speed_has_one_place_for_the_tables():
    """Without its marks the tables would be written at the end of the page, once more each time."""
    assert (PAGE.read_text().count(BEGIN), PAGE.read_text().count(END)) == (1, 1)
