"""The commands are handed what the steps are."""

from tests.pipeline.conftest import finished_context, make_context, make_settings

__all__ = ["finished_context", "make_context", "make_settings"]
