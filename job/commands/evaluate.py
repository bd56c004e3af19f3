"""The command `evaluate`: adapter against base once more, with other metrics or another decoding."""

from job.commands.run import report_done
from job.config.identity import training_identity
from job.config.settings import Settings
from job.model.lora import load_adapter
from job.pipeline import evaluate as step
from job.pipeline.claim import claimed_run
from job.pipeline.prepare import load_base_model, prepare_run
from job.pipeline.publish import publish
from job.pipeline.run_folder import RunFolder
from job.pipeline.verify import verify


def evaluate(settings: Settings) -> None:
    """Evaluates the adapter that is there, again if it was evaluated before; the evaluation's settings may be new."""
    RunFolder.of(settings).check_adapter()
    with claimed_run(settings, training_identity(settings)) as folder:
        context = prepare_run(settings, folder)
        step.evaluate(context, load_adapter(load_base_model(context), folder.adapter))
        verify(context)
        publish(context)
        report_done(settings, folder)
