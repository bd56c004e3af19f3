"""The function that rewrites rows for an adapter: run because PREPROCESS names it, and only if it is the one of the training."""

from pathlib import Path

from job.errors import SettingsError
from job.pipeline.records import AdapterRecord
from job.system.seal import sha256


def own_function(named: str | None, record: AdapterRecord) -> str | None:
    """`named`, as PREPROCESS is set; None where the adapter was trained without one.

    What an adapter's folder names is never run: it may come from anybody. Raises SettingsError where both are not the same.
    """
    if named is None and record.preprocess is None:
        return None
    if named is None:
        raise SettingsError(
            f"PREPROCESS is not set, and the adapter was trained with {record.preprocess}. Set PREPROCESS to that function: what "
            "an adapter's folder names is not run."
        )
    if record.preprocess is None:
        raise SettingsError(f"PREPROCESS={named}: the adapter was trained without such a function. Leave PREPROCESS out.")
    path, _, name = named.rpartition(":")
    trained = record.preprocess.rpartition(":")[2]
    if name != trained:
        raise SettingsError(f"PREPROCESS={named}: the adapter was trained with the function {trained}. Name that one.")
    wanted = record.preprocess_sha256
    if wanted and Path(path).is_file() and sha256(Path(path)) != wanted:
        raise SettingsError(
            f"PREPROCESS={named}: {path} is not the file that the adapter was trained with (sha256 {wanted}). Bring that one back."
        )
    return named
