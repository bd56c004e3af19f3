"""Tiny models and data, built here: nothing is fetched. The sizes are the smallest that still have every part."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["DEVICE"] = "cpu"
os.environ["OMP_NUM_THREADS"] = "1"  # in all processes: more threads for tiny models only wait for each other

import csv
import gc
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import hypothesis  # noqa: F401  before a run keeps what is imported from collections of garbage: it asks those who refers to what
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

import entrypoint
from job import errors
from job.config.environment import KNOWN
from job.errors import JobError
from job.publish import plots, reload, verification
from job.system.signals import stop_signals
from job.training.step import Stepper

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may be run under nohup, and the job respects that
DEMO_BASE = Path(entrypoint.__file__).parent / "job" / "demo" / "base"
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)


def pytest_collection_finish() -> None:
    """Keeps what all tests share from each collection of garbage, which would look at it again for every test."""
    gc.freeze()


ERRORS = [kind for kind in JobError.__subclasses__() if kind.__module__ == errors.__name__]
"""The classes of the tree; RankFailed of system/failures.py hands on the code of one of them."""
OF_OTHER_PROGRAMS = {"HF_HUB_OFFLINE", "HF_ENDPOINT", "NO_COLOR"}
"""Variables that tests set for other programs than the job."""


def checked(variables: Mapping[str, object]) -> dict[str, str]:
    """`variables` with their values as texts. A test that sets one that the job does not have would test nothing: ValueError."""
    if unknown := sorted(variables.keys() - set(KNOWN) - OF_OTHER_PROGRAMS):
        raise ValueError(f"no field of Settings is named so: {', '.join(unknown)}")
    return {name: str(value) for name, value in variables.items()}


def environment_with(variables: Mapping[str, object]) -> dict[str, str]:
    """The environment of a job in a process of its own: this one's with these variables."""
    return os.environ | checked(variables)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has its own folder and none of the variables of the machine it runs on."""
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(DEMO_BASE)


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A FLAN-T5 as published: its own lm_head, unlike the shared embedding, more embeddings than tokens, and `tie_word_embeddings`
    false in its config (transformers 5 makes it true while loading)."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu", dropout_rate=0.0,
        tie_word_embeddings=False, decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(400, 32) * 0.05)
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    return _save(model, tokenizer, tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model with a chat template."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(DEMO_BASE)
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    return _save(LlamaForCausalLM(config), tokenizer, tmp_path_factory.mktemp("llama"))


def _save(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows (dicts) to a file of the given name, csv or jsonl, and returns its path."""

    def write(rows: list[dict], name: str = "rows.csv") -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            if path.suffix == ".jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
        return path

    return write


@pytest.fixture
def questions() -> list[dict]:
    """Forty different rows with the default column names."""
    return [{"input": f"the {number} of May", "output_ground_truth": f"05-{number:02d}"} for number in range(1, 41)]


def run_reload_here(task: str) -> subprocess.CompletedProcess[str]:
    """What the fresh process at a run's end finds, without its start-up of seconds; test_verification.py has the real one."""
    return subprocess.CompletedProcess([], 0, json.dumps(reload.answer(json.loads(task))), "")


def plot_unseen(draw: Callable[[Axes], None], size: tuple[float, float] = plots.SIZE) -> str:
    """An empty picture of what `draw` did draw: to lay it out and write it, as test_plots.py does, takes a third of a short run."""
    draw(Figure(size).subplots())
    return '<svg viewBox="0 0 1 1"></svg>'


@pytest.fixture
def fresh_process() -> dict[str, Callable]:
    """How the process of the proof is "run"; a test may put another way in its place."""
    return {"run": run_reload_here}


@pytest.fixture
def run_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fresh_process: dict[str, Callable]
) -> Callable[..., tuple[int, str]]:
    """Runs a command of entrypoint.py in this process with the given variables: (exit code, what it logged)."""

    def run(*arguments: str, **variables: object) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            patch.setattr(verification, "run_script", fresh_process["run"])
            patch.setattr(plots, "_svg", plot_unseen)
            for name, value in checked(variables).items():
                patch.setenv(name, value)
            caplog.clear()
            code = entrypoint.main(list(arguments))
        return code, "\n".join(record.getMessage() for record in caplog.records)

    return run


FINISHED = {
    "MAX_STEPS": 4, "LOGGING_STEPS": 1, "EVAL_STRATEGY": "no", "SAVE_STRATEGY": "no", "RUN_NAME": "r", "MAX_NEW_TOKENS": 8,
}  # fmt: skip
"""Of `finished_run`."""
STOPPED = {
    "MAX_STEPS": 8, "LOGGING_STEPS": 1, "EVAL_STRATEGY": "no", "SAVE_STRATEGY": "steps", "SAVE_STEPS": 2, "RUN_NAME": "r",
    "MAX_NEW_TOKENS": 4, "METRICS": "exact_match", "PREPROCESSING_NUM_WORKERS": 1,
}  # fmt: skip
"""Of `stopped_run`."""


@pytest.fixture(scope="session")
def run_once(tmp_path_factory: pytest.TempPathFactory, t5_folder: Path) -> Callable[..., tuple[dict, Path]]:
    """Runs the job once a session on forty rows: (variables, the folder that it was started in)."""

    def run(wanted: dict, code: int, stop_after: int | None = None, command: str = "run") -> tuple[dict, Path]:
        folder, variables = tmp_path_factory.mktemp("once"), {"MODEL_ID": t5_folder, "TRAIN_DATA": "rows.csv"} | wanted
        rows = [f"the {number} of May,05-{number:02d}\n" for number in range(1, 41)]
        (folder / "rows.csv").write_text("input,output_ground_truth\n" + "".join(rows))
        with pytest.MonkeyPatch.context() as patch:
            for name in KNOWN:
                patch.delenv(name, raising=False)
            for name, value in {"DEVICE": "cpu", **variables}.items():
                patch.setenv(name, str(value))
            patch.chdir(folder)
            patch.setattr(verification, "run_script", run_reload_here)
            if stop_after:
                patch.setattr(stop_signals, "received", None)
                do_after_step(patch, stop_after, lambda **_: setattr(stop_signals, "received", "SIGTERM"))
            assert entrypoint.main([command]) == code
        return variables, folder

    return run


def do_after_step(patch: pytest.MonkeyPatch, step: int, action: Callable[..., None]) -> None:
    """Arranges that `action` is called while a step of the next training is computed, after its gradient."""
    usual = Stepper._backward

    def backward(self: Stepper, rows: object, seeds: tuple[int, int]) -> torch.Tensor:
        loss = usual(self, rows, seeds)
        if seeds[1] + 1 == step:
            action(model=self.model)
        return loss

    patch.setattr(Stepper, "_backward", backward)


@pytest.fixture(scope="session")
def pristine_run(run_once: Callable[..., tuple[dict, Path]]) -> tuple[dict, Path]:
    """A finished run that no test may change: its variables, and the folder that it was started in."""
    return run_once(FINISHED, 0)


@pytest.fixture(scope="session")
def pristine_stopped_run(run_once: Callable[..., tuple[dict, Path]]) -> tuple[dict, Path]:
    """The same of a run that a signal has stopped after step 3 of 8, with checkpoints of steps 2 and 3."""
    return run_once(STOPPED, 143, stop_after=3)


@pytest.fixture
def finished_run(pristine_run: tuple[dict, Path], tmp_path: Path) -> tuple[dict, Path]:
    """The variables of a finished run, and its folder, in this test's own."""
    variables, folder = pristine_run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return variables, Path("output/r")


@pytest.fixture
def stopped_run(pristine_stopped_run: tuple[dict, Path], tmp_path: Path) -> tuple[dict, Path]:
    """The variables of a run that a signal has stopped after step 3 of 8, and its folder, in this test's own."""
    variables, folder = pristine_stopped_run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return variables, Path("output/r")
