"""The settings of a run that is there: what it was made with, for commands that go on from it."""

import logging

from job.config.identity import DOES_NOT_CHANGE_THE_RESULT, format_value, is_same
from job.config.settings import Settings
from job.pipeline.run_folder import RunFolder

log = logging.getLogger(__name__)

CODE = ("trust_remote_code", "preprocess", "metric")
"""Never taken from a folder, which may come from anybody: what it names is not run."""


def with_recorded(settings: Settings, folder: RunFolder) -> Settings:
    """`settings` with what the run was made with where nothing else is set; a log line a variable tells what else is."""
    recorded = folder.read_settings().settings
    defaults = Settings.model_construct().model_dump(mode="json")
    kept = {name: value for name, value in recorded.items() if name in defaults and name not in DOES_NOT_CHANGE_THE_RESULT}
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    for name, value in settings.model_dump(mode="json", include=set(given) & set(kept)).items():
        if not is_same(name, kept[name], value):
            log.info("%s=%s: the run was made with %s", name.upper(), format_value(value), format_value(kept[name]) or "none")
    for name in (name for name in CODE if kept.pop(name, None) and name not in given):
        log.warning("%s=%s: the run was made with it; what a folder names is not run. Set it", name.upper(), recorded[name])
    taken = {name: value for name, value in kept.items() if name not in given and value != defaults[name]}
    return Settings(**taken | given) if taken else settings
