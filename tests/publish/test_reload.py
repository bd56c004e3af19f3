"""The script that reloads."""

import ast

from job.publish import verification


def test_the_fresh_process_imports_nothing_of_the_job():
    imported = {
        name
        for node in ast.walk(ast.parse(verification.SCRIPT.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert {name.partition(".")[0] for name in imported} == {"json", "sys", "torch", "peft", "transformers"}
