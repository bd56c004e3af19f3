"""Which variables each command reads, and its `--help` made of them."""

from textwrap import fill

from job.config.docs import default_of, groups
from job.config.settings import Settings

HUB = {"model_id", "model_revision", "trust_remote_code", "allow_pickle", "hf_token", "hf_token_file"}
RUN = {"run_name", "model_id", "train_data", "output_dir", "hf_home", "log_level"}
"""What names a run: where RUN_NAME is not set, model and data do."""
ASKED = {
    "input_column", "sheet", "preprocess", "source_language", "target_language", "device", "precision", "quantization",
    "per_device_eval_batch_size",
}  # fmt: skip
OF_ONE_COMMAND = ("Merge", "Serve", "Plan", "Sweep")
"""Headings of settings.py whose variables are read by the command of that name."""
WIDTH = 120


def variables_of(command: str) -> set[str]:
    """The settings that `command` reads."""
    everything = set(Settings.model_fields)
    by_heading = {heading: set(names) for heading, names in groups().items()}
    training = everything.difference(*(by_heading[heading] for heading in OF_ONE_COMMAND), {"predict_confidence"})
    publishing = {"gpu_hourly_cost", "push_to_hub", "hub_model_id", "hub_private_repo"}
    of_rows = {"task", "seed", "overwrite", "logs_dir"} | by_heading["Data"]
    machine = by_heading["Precision and hardware"]
    evaluating = by_heading["Evaluation"] - {"predict_confidence"} | publishing | {"report_to", "export_dir", "grace_s"}
    return {
        "run": training,
        "train": training - {"push_to_hub", "hub_model_id", "hub_private_repo"},
        "evaluate": HUB | RUN | of_rows - {"overwrite"} | machine | evaluating,
        "prepare": HUB | RUN | of_rows | {"device", "precision", "quantization"},
        "plan": training - {"push_to_hub", "hub_model_id", "hub_private_repo", "overwrite"} | by_heading["Plan"],
        "doctor": training,
        "sweep": training | by_heading["Sweep"],
        "predict": HUB | RUN | ASKED | {"predict_confidence"},
        "serve": HUB | RUN | ASKED | by_heading["Serve"] | {"grace_s"},
        "merge": HUB | RUN | {"device"} | by_heading["Merge"],
        "compare": {"output_dir", "logs_dir", "log_level"},
        "check": HUB | RUN | {"logs_dir", "device"},
        "status": RUN - {"hf_home"},
    }[command]


def describe_variables(command: str) -> str:
    """The variables of `command` with their defaults, under the headings of env.example."""
    read = variables_of(command)
    parts = ["variables, in the environment or in .env:"]
    for heading, names in groups().items():
        lines = [_describe(name) for name in names if name in read]
        parts += [f"\n{heading}", *lines] if lines else []
    return "\n".join(parts) + "\n"


def _describe(name: str) -> str:
    text = fill(str(Settings.model_fields[name].description), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return f"  {name.upper()}={default_of(name)}\n{text}"
