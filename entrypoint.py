"""python entrypoint.py [COMMAND]: reads argv, calls one command, turns errors into exit codes."""

from job.system.signals import stop_signals

if __name__ == "__main__":
    stop_signals.watch(deferred=True)  # before anything else takes its time

import argparse
import gc
import importlib
import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from job import __version__
from job.config.engines import MASTER_PORT, leave_failure
from job.errors import EXIT_BUG, JobError, SettingsError
from job.system.console import configure, end_process
from job.system.failures import RankFailed
from job.system.file_system import refusals_as_errors
from job.system.folders import ensure_writable
from job.system.launcher import Node, launch, process_count, report_failure
from job.system.out_of_memory import out_of_memory_behind

if TYPE_CHECKING:
    from job.config.settings import Settings

log = logging.getLogger("job")


class CommandLine(argparse.ArgumentParser):
    """An ArgumentParser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}. `{self.prog} --help` lists what there is.")


class Command(CommandLine):
    """The command line of one command; its --help lists the variables too."""

    def format_help(self) -> str:
        from job.config.command_help import describe_variables  # noqa: PLC0415  the list of commands needs no pydantic

        return f"{super().format_help()}\n{describe_variables(self.prog.split()[-1])}"


def command_line() -> argparse.ArgumentParser:
    """The parser of all commands; its result has `command`, `writes` (whether to OUTPUT_DIR), `several` (whether in several
    processes), and the command's own arguments."""
    parser = CommandLine("python entrypoint.py", description="Fine-tune a language model with LoRA, and measure whether it helped.",
                         epilog="All else is set by variables, in the environment or in .env: COMMAND --help.")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"lora-job {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Command)

    def command(name: str, text: str, writes: bool = True, several: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(writes=writes, several=several)
        return made

    command("run", "prepare, train, evaluate and publish (when no command is given)", several=True)
    command("plan", "predict what training takes on each kind of GPU; needs none", writes=False).add_argument(
        "--json", action="store_true", dest="as_json", help="for programs"
    )
    command("doctor", "check GPUs, folders, model, data and the links between GPUs in seconds", writes=False, several=True)
    command("prepare", "read, split and tokenise the data; needs no GPU")
    command("train", "prepare and train", several=True)
    command("evaluate", "evaluate the adapter against the base model", several=True)
    predict = command("predict", "answer the rows of a file with the trained adapter", writes=False)
    predict.add_argument("file", metavar="FILE", help="the table to answer")
    predict.add_argument("output", metavar="OUT", nargs="?", help="where to write it (default: predictions/ of the run)")
    status = command("status", "show how far a run is that is under way elsewhere", writes=False)
    status.add_argument("run", metavar="RUN", nargs="?", help="its name (default: RUN_NAME)")
    compare = command("compare", "report which settings of runs differ, and which run is better")
    compare.add_argument("runs", metavar="RUN", nargs="*")
    command("check", "verify what a run left, file by file", writes=False).add_argument(
        "run", metavar="RUN", nargs="?", help="its name (default: RUN_NAME)"
    )
    command("sweep", "try the settings that SWEEP names, and evaluate the best run of them")
    command("serve", "show a page to try the adapter, and answer programs that speak OpenAI's protocol", writes=False)
    command("merge", "write base model and adapter as one model, and compare it with the adapter")
    return parser


def main(arguments: list[str]) -> int:
    """The exit code of the command that `arguments` name."""
    try:
        configure("info")
        with stop_signals.obeyed():
            parsed = parse(arguments)
            if parsed:
                call(parsed.pop("command"), parsed.pop("writes"), parsed.pop("several"), parsed)
        return 0
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        return explain(error)


def explain(error: BaseException) -> int:
    """The exit code of what ended the command, once that is told, also to whoever started this process."""
    meant = stop_signals.interruption_behind(error) or out_of_memory_behind(error) or error
    exit_code = meant.exit_code if isinstance(meant, JobError) else EXIT_BUG
    if isinstance(meant, JobError):
        log.error("%s", meant, exc_info=error if log.isEnabledFor(logging.DEBUG) else None)
    else:
        log.error("a bug in lora-job %s", __version__, exc_info=error)
    report_failure(meant)
    leave_failure(str(meant))
    return exit_code


def parse(arguments: list[str]) -> dict[str, Any] | None:
    """What `command_line` makes of the arguments; None where it has answered by itself, as to --help. Raises SettingsError."""
    try:
        return vars(command_line().parse_args(arguments or ["run"]))
    except SystemExit:
        return None


def call(command: str, writes: bool, several: bool, arguments: dict[str, object]) -> None:
    """Runs the function of that name in job/commands/ with the settings of the environment. Raises JobError."""
    from job.config.environment import read_settings  # noqa: PLC0415  --help needs no pydantic
    from job.config.search_space import read_axes  # noqa: PLC0415

    settings = read_settings()
    configure(settings.log_level)
    if command == "sweep":
        read_axes(settings)  # which may be none
    if settings.node_rank >= settings.nnodes and "LOCAL_RANK" not in os.environ:
        raise SettingsError(
            f"NODE_RANK={settings.node_rank} of NNODES={settings.nnodes} machines. Count machines from 0 on, and set NNODES."
        )
    for variable, folder in settings.written_folders.items():
        if variable == "HF_HOME" or (writes and os.environ.get("RANK", str(settings.node_rank)) == "0"):
            ensure_writable(folder, variable)
    if settings.hf_home:
        os.environ["HF_HOME"] = str(settings.hf_home)
    set_up_libraries()
    if several and (processes := process_count(settings.nproc_per_node, settings.device, settings.nnodes)):
        return launch_all(settings, command, processes, writes)
    with stop_signals.ending_at_once(lambda: explain(stop_signals.interruption())):  # half an import would raise anything
        module = import_command(command)  # only now, with right settings: torch takes seconds
    place = {"OUT": Path(str(arguments["output"])).absolute().parent} if arguments.get("output") else {}
    with refusals_as_errors(settings.written_folders | place):
        getattr(module, command)(settings, **arguments)


def import_command(command: str) -> ModuleType:
    """The module of that name in job/commands/. What it imports, half a million objects, is kept from each later collection of
    garbage, which takes 0.3 s with them."""
    name = f"job.commands.{command}"
    if name not in sys.modules:
        gc.disable()
        try:
            importlib.import_module(name)
            gc.freeze()
        finally:
            gc.enable()
    return sys.modules[name]


def set_up_libraries() -> None:
    """Sets what torch and its threads read from the environment as they are loaded, where nobody else did."""
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # its older name
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # batches of many lengths fragment less
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # threads that wait soon sleep: beside other programs that is 3 x as fast


def launch_all(settings: "Settings", command: str, processes: int, writes: bool) -> None:
    """Runs the command in so many processes of this machine; machine 0 writes why it failed. Raises JobError."""
    node = Node(port=settings.master_port)
    if settings.nnodes > 1 and settings.master_addr:
        node = Node(settings.node_rank, settings.nnodes, settings.master_addr, settings.master_port or MASTER_PORT)
    try:
        launch([sys.executable, __file__, command], processes, settings.grace_s, node)
    except (RankFailed, KeyboardInterrupt) as error:
        meant = error if isinstance(error, RankFailed) else stop_signals.interruption()
        if writes and settings.node_rank == 0:
            with stop_signals.deferred():
                importlib.import_module("job.pipeline.status").correct_failure(settings, meant)
        raise


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    stop_signals.ignore()
    end_process(exit_code)
