"""python entrypoint.py [COMMAND]: reads argv, calls one command, turns errors into exit codes."""

import logging
import os
import sys

from job.errors import EXIT_BUG, Interrupted, JobError, SettingsError
from job.pipeline.run_folder import make_writable
from job.system.console import configure
from job.system.signals import stop_signals

USAGE = """\
python entrypoint.py [COMMAND]

  run                   prepare, train, evaluate and publish (when no command is given)
  plan [--json]         tell what training would take on each kind of GPU; needs none
  doctor                check GPU, folders, model and data in seconds
  prepare               read, split and tokenise the data; needs no GPU
  train                 prepare and train
  evaluate              measure the adapter against the base model
  predict FILE [OUT]    answer the rows of FILE with the trained adapter
  compare RUN RUN ...   tell which settings of these runs differ, and which is better
  merge                 write base model and adapter as one model, and compare it with the adapter

Everything else is set by variables, in the environment or in .env: see env.example."""

COMMANDS = ("run", "plan", "doctor", "prepare", "train", "evaluate", "predict", "merge", "compare")

log = logging.getLogger("job")


def main(arguments: list[str]) -> int:
    """The exit code of the command that `arguments` name."""
    command, *rest = arguments or ["run"]
    if command in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    configure("info")
    try:
        return call(command, rest)
    except KeyboardInterrupt as stop:
        log.error("%s", stop)
        return Interrupted.exit_code
    except JobError as error:
        log.error("%s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        return error.exit_code
    except Exception:
        log.exception("a bug in lora-job")
        return EXIT_BUG


def call(command: str, arguments: list[str]) -> int:
    """Runs one command with the settings of the environment; 0. Raises JobError."""
    if command in COMMANDS and not exists(command, arguments):
        raise SettingsError(
            f"{' '.join([command, *arguments])}: wrong arguments. `python entrypoint.py --help` shows those of {command}."
        )
    if command not in COMMANDS:
        raise SettingsError(f"{' '.join([command, *arguments])}: no such command. `python entrypoint.py --help` lists them.")
    from job.config.environment import read_settings  # noqa: PLC0415  --help needs no pydantic

    settings = read_settings()
    configure(settings.log_level)
    written = {"HF_HOME": settings.hf_home} if settings.hf_home else {}
    if command not in ("predict", "plan", "doctor"):
        written |= {"OUTPUT_DIR": settings.output_dir, "LOGS_DIR": settings.logs_dir}
    for variable, folder in written.items():
        make_writable(folder, variable)
    if settings.hf_home:
        os.environ["HF_HOME"] = str(settings.hf_home)
    from job.commands import run  # noqa: PLC0415  only now, with right settings: importing torch takes seconds

    getattr(run, command)(settings, *arguments)
    return 0


def exists(command: str, arguments: list[str]) -> bool:
    """Whether there is such a command, and it takes such arguments."""
    if command == "predict":
        return len(arguments) in (1, 2)
    if command == "compare":
        return True
    return command in COMMANDS and (not arguments or (command == "plan" and arguments == ["--json"]))


if __name__ == "__main__":
    stop_signals.watch()
    sys.exit(main(sys.argv[1:]))
