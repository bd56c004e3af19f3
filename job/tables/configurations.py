"""The configurations of a dataset that its README.md lists, as on the hub."""

from pathlib import Path

from huggingface_hub import DatasetCard

from job.errors import DataError
from job.tables.parts import part_of


def files_of_card(where: str, folder: Path) -> dict[str, list[Path]] | None:
    """Files by their part, as the README.md in `folder` lists them; None where it lists none.

    Raises DataError where it lists several configurations and calls none the default.
    """
    try:
        if not (folder / "README.md").read_text(encoding="utf-8").startswith("---"):
            return None
        configurations = DatasetCard.load(folder / "README.md", ignore_metadata_errors=True).data.to_dict().get("configs")
        named = {config["config_name"]: config for config in configurations if config.get("data_files")}
        if not named:
            return None
        default = [config for name, config in named.items() if name == "default" or config.get("default")] or list(named.values())
        files = default[0]["data_files"]
        if isinstance(files, str):
            files = [files]
        patterns = [entry if isinstance(entry, dict) else {"split": "train", "path": entry} for entry in files]
        listed = [(entry["split"], entry["path"]) for entry in patterns]
    except Exception:  # no README.md, or one in which a person wrote what they liked
        return None
    if len(default) > 1:
        names = ", ".join(f'"{name}"' for name in named)
        raise DataError(f"{where}: README.md lists several datasets: {names}. Name the folder or the files of one.")
    parts: dict[str, list[Path]] = {}
    for split, paths in listed:
        for path in [paths] if isinstance(paths, str) else paths:
            parts.setdefault(part_of(split) or "other", []).extend(sorted(folder.glob(path)))
    return parts
