"""The README's speed section is what was measured."""

from bench.show import README, read_results, with_tables


def test_the_readme_has_the_tables_of_the_results():
    results = read_results()
    assert results
    assert README.read_text() == with_tables(README.read_text(), results), "run: python -m bench.show"
    assert all(f"| {row['name']} |" in README.read_text() for result in results for row in result["table"])
