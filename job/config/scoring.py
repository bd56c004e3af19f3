"""Settings -> how answers are generated and scored; a person's own metric is loaded and tried here."""

from job.config.settings import Settings
from job.data.prepare import PreparedData
from job.data.token_lengths import answer_lengths
from job.evaluation.evaluate import Scoring
from job.evaluation.generate import Decoding
from job.evaluation.metrics import CustomMetric, check_best_metric, check_custom_metric, check_metrics, score_custom_metric
from job.system.user_function import load_function


def make_scoring(settings: Settings, prepared: PreparedData) -> Scoring:
    """How the held-out rows are answered, one at a time, and scored.

    Tries a person's own metric on one row, so that it fails before training, not after. Raises SettingsError.
    """
    check_metrics(settings.metrics)
    custom_metric = _load_metric(settings, prepared)
    check_best_metric(settings.metric_for_best_model, custom_metric)
    longest = int(answer_lengths(prepared.evaluation).max())
    max_new_tokens = settings.max_new_tokens or longest + longest // 4 + 1
    return Scoring(Decoding(1, max_new_tokens, settings.num_beams), settings.metrics, custom_metric)


def _load_metric(settings: Settings, prepared: PreparedData) -> CustomMetric | None:
    if settings.metric is None:
        return None
    custom_metric = CustomMetric(settings.metric, load_function(settings.metric, "METRIC"))
    check_custom_metric(custom_metric)
    if "ground_truth" in prepared.evaluation.column_names:
        truths = prepared.evaluation["ground_truth"][:1]
        score_custom_metric(truths, truths, custom_metric)
    return custom_metric
