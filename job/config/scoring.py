"""Settings -> how answers are generated and scored; a person's own metric is loaded and tried here."""

import sys

from job.config.settings import Settings
from job.data.prepared import PreparedData
from job.data.token_lengths import answer_lengths
from job.errors import SettingsError
from job.evaluation.evaluate import Scoring
from job.evaluation.generate import Decoding
from job.evaluation.metrics import CustomMetric, check_best_metric, check_custom_metric, check_metrics, score_custom_metric
from job.system.user_function import load_function


def make_scoring(settings: Settings, prepared: PreparedData, positions: int | None = None, kept: tuple[int, ...] = ()) -> Scoring:
    """How the held-out rows are answered, one at a time, and scored.

    positions: of the decoder, if it has its own ones. kept: special tokens that belong to the text of an answer.
    Tries a person's own metric on one row, so that it fails before training, not after. Raises SettingsError.
    """
    check_metrics(settings.metrics)
    custom_metric = _load_metric(settings, prepared)
    check_best_metric(settings.metric_for_best_model, custom_metric)
    longest = int(answer_lengths(prepared.evaluation).max())
    max_new_tokens = _max_new_tokens(settings, longest, positions)
    return Scoring(Decoding(1, max_new_tokens, settings.num_beams, kept=kept), settings.metrics, custom_metric)


def _max_new_tokens(settings: Settings, longest: int, positions: int | None) -> int:
    """As set, else a quarter more than the longest right answer, within the decoder's positions. Raises SettingsError."""
    if positions and (settings.max_new_tokens or 0) > positions:
        raise SettingsError(f"MAX_NEW_TOKENS={settings.max_new_tokens}: the model has positions for {positions}. Set at most that.")
    return settings.max_new_tokens or min(longest + longest // 4 + 1, positions or sys.maxsize)


def _load_metric(settings: Settings, prepared: PreparedData) -> CustomMetric | None:
    if settings.metric is None:
        return None
    custom_metric = CustomMetric(settings.metric, load_function(settings.metric, "METRIC"))
    check_custom_metric(custom_metric)
    if "ground_truth" in prepared.evaluation.column_names:
        truths = prepared.evaluation["ground_truth"][:1]
        score_custom_metric(truths, truths, custom_metric)
    return custom_metric
