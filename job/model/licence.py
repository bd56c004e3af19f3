"""The licence of a base model, as its card says."""

from pathlib import Path

from huggingface_hub import ModelCardData, try_to_load_from_cache
from huggingface_hub.repocard import metadata_load

from job.model.load import BaseModel

CARD = "README.md"
OTHER = "other"


def read_licence(base: BaseModel) -> str | None:
    """The name of the licence; None where the card is neither in the model's folder nor in the hub's cache, or does not say."""
    folder = Path(base.model_id)
    found = folder / CARD if folder.is_dir() else try_to_load_from_cache(base.model_id, CARD, revision=base.revision)
    if not isinstance(found, str | Path) or not Path(found).exists():
        return None
    try:
        data = ModelCardData(ignore_metadata_errors=True, **(metadata_load(found) or {}))
    except Exception:  # a card is written by hand: broken YAML, fields of any type
        return None
    names = data.license if isinstance(data.license, list) else [data.license]
    own_name = getattr(data, "license_name", None)
    known = [str(own_name) if name == OTHER and own_name else str(name) for name in names if name]
    return ", ".join(known) or None
