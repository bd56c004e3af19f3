"""The command `evaluate`: adapter against base once more, with other metrics or another decoding."""

from job.commands.run import report_done
from job.config.identity import training_identity
from job.config.settings import Settings
from job.pipeline import evaluate as step
from job.pipeline.claim import claimed_run
from job.pipeline.prepare import load_trained_model, prepare_run
from job.pipeline.publish import publish
from job.pipeline.recorded import with_recorded
from job.pipeline.run_folder import RunFolder
from job.pipeline.verify import verify
from job.system.ranks import this_rank


def evaluate(settings: Settings) -> None:
    """Evaluates the adapter that is there, again if it was evaluated before; the evaluation's settings may be new.

    The others are those that the run was made with, so that RUN_NAME alone is enough.
    """
    folder = RunFolder.of(settings)
    if this_rank().is_main:
        folder.check_adapter()
    settings = with_recorded(settings, folder)
    with claimed_run(settings, training_identity(settings)) as folder:
        context = prepare_run(settings, folder)
        step.evaluate(context, load_trained_model(context))
        if context.ranks.is_main:
            verify(context)
            publish(context)
            report_done(settings, folder)
        context.ranks.broadcast(None)
