"""python entrypoint.py [COMMAND]: reads argv, calls one command, turns errors into exit codes."""

import argparse
import importlib
import logging
import os
import sys
from typing import Any, NoReturn

from job import __version__
from job.errors import EXIT_BUG, Interrupted, JobError, SettingsError
from job.system.console import configure
from job.system.folders import ensure_writable
from job.system.launcher import RankFailed, launch, process_count, report_failure
from job.system.signals import stop_signals

log = logging.getLogger("job")


class CommandLine(argparse.ArgumentParser):
    """An ArgumentParser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}. `{self.prog} --help` lists what there is.")


def command_line() -> argparse.ArgumentParser:
    """The parser of all commands; its result has `command`, `writes` (whether to OUTPUT_DIR), `several` (whether in several
    processes), and the command's own arguments."""
    parser = CommandLine("python entrypoint.py", description="Fine-tune a language model with LoRA, and measure whether it helped.",
                         epilog="Everything else is set by variables, in the environment or in .env: see env.example.")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"lora-job {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name: str, text: str, writes: bool = True, several: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(writes=writes, several=several)
        return made

    command("run", "prepare, train, evaluate and publish (when no command is given)", several=True)
    command("plan", "predict what training takes on each kind of GPU; needs none", writes=False).add_argument(
        "--json", action="store_true", dest="as_json", help="for programs"
    )
    command("doctor", "check GPU, folders, model and data in seconds", writes=False)
    command("prepare", "read, split and tokenise the data; needs no GPU")
    command("train", "prepare and train", several=True)
    command("evaluate", "evaluate the adapter against the base model", several=True)
    predict = command("predict", "answer the rows of a file with the trained adapter", writes=False)
    predict.add_argument("file", metavar="FILE", help="the table to answer")
    predict.add_argument("output", metavar="OUT", nargs="?", help="where to write it (default: predictions/ of the run)")
    compare = command("compare", "report which settings of runs differ, and which run is better")
    compare.add_argument("runs", metavar="RUN", nargs="*")
    command("merge", "write base model and adapter as one model, and compare it with the adapter")
    return parser


def main(arguments: list[str]) -> int:
    """The exit code of the command that `arguments` name."""
    configure("info")
    try:
        parsed = parse(arguments)
        if parsed:
            call(parsed.pop("command"), parsed.pop("writes"), parsed.pop("several"), parsed)
        return 0
    except KeyboardInterrupt as stop:
        log.error("%s", stop)
        report_failure(Interrupted(str(stop)), Interrupted.exit_code)
        return Interrupted.exit_code
    except JobError as error:
        log.error("%s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        report_failure(error, error.exit_code)
        return error.exit_code
    except (Exception, SystemExit) as error:
        log.exception("a bug in lora-job %s", __version__)
        report_failure(error, EXIT_BUG)
        return EXIT_BUG


def parse(arguments: list[str]) -> dict[str, Any] | None:
    """What `command_line` makes of the arguments; None where it has answered by itself, as to --help. Raises SettingsError."""
    try:
        return vars(command_line().parse_args(arguments or ["run"]))
    except SystemExit:
        return None


def call(command: str, writes: bool, several: bool, arguments: dict[str, object]) -> None:
    """Runs the function of that name in job/commands/ with the settings of the environment. Raises JobError."""
    from job.config.environment import read_settings  # noqa: PLC0415  --help needs no pydantic

    settings = read_settings()
    configure(settings.log_level)
    folders = {"HF_HOME": settings.hf_home} if settings.hf_home else {}
    if writes and os.environ.get("RANK", "0") == "0":
        folders |= {"OUTPUT_DIR": settings.output_dir, "LOGS_DIR": settings.logs_dir}
    for variable, folder in folders.items():
        ensure_writable(folder, variable)
    if settings.hf_home:
        os.environ["HF_HOME"] = str(settings.hf_home)
    if several and (processes := process_count(settings.nproc_per_node, settings.device)) > 1:
        try:
            return launch([sys.executable, __file__, command], processes, settings.grace_s)
        except RankFailed as error:
            importlib.import_module("job.pipeline.status").correct_failure(settings, error)
            raise
    module = importlib.import_module(f"job.commands.{command}")  # only now, with right settings: torch takes seconds
    getattr(module, command)(settings, **arguments)


if __name__ == "__main__":
    stop_signals.watch()
    sys.exit(main(sys.argv[1:]))
