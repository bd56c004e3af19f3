"""A new evaluation takes the place of the last one whole: table, verdict, what the proof expects, and its settings.

They are written to a folder of their own, which then gets a name that counts, and whose files move to their places. After a kill at
any moment the next command moves the rest, or all of the last evaluation is still there.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from job.pipeline.run_folder import RunFolder
from job.system.durable import flush_to_disk, replace_folder_durably


@contextmanager
def replaced_evaluation(folder: RunFolder) -> Iterator[RunFolder]:
    """A folder for the files of a new evaluation, which replace the last ones once all of them are written."""
    partial = folder.new_evaluation.with_name("evaluation.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    yield RunFolder(partial, folder.logs)
    replace_folder_durably(partial, folder.new_evaluation)
    finish_replacing(folder)


def finish_replacing(folder: RunFolder) -> None:
    """Moves what is left of an evaluation that is written whole to its place; nothing where there is none."""
    new = folder.new_evaluation
    if not new.exists():
        return
    for path in sorted(new.iterdir()):
        os.replace(path, folder.path / path.name)
    flush_to_disk(folder.path)
    new.rmdir()
