"""`docker compose` as a person types it: right after `git clone`, with a spreadsheet of their own, and when things go wrong."""

import json
import re
import shutil
import subprocess
import urllib.request

import pytest
import yaml
from openpyxl import Workbook
from peft import AutoPeftModelForSeq2SeqLM

from tests.container.clones import CPU, ENVIRONMENT, ROOT, Clone, said

CLUSTER = ("-f", "docker-compose.yml", "-f", "docker-compose.cluster.yml")
FEW_STEPS = {"MAX_STEPS": "3", "EVAL_MAX_ROWS": "4"}


def test_up_right_after_git_clone_trains_the_default_for_a_user_of_uid_1000(make_clone, monkeypatch):
    clone = make_clone(1000)
    result = clone.compose("up", "--no-log-prefix", "--exit-code-from", "job")
    assert result.returncode == 0, said(result)
    exact = re.search(r"verdict: better on 240 rows: exact match 0\.\d % -> (\d+\.\d) %", said(result))
    assert float(exact[1]) >= 85
    check_that_the_user_owns_the_run(clone, "demo")
    monkeypatch.chdir(ROOT)
    AutoPeftModelForSeq2SeqLM.from_pretrained(clone.folder / "output" / "demo" / "adapter")
    deleted = clone.as_user("rm", "-r", "output/demo")
    assert deleted.returncode == 0, said(deleted)


def test_up_right_after_git_clone_works_for_root_and_the_process_is_not_root(make_clone):
    clone = make_clone(0)
    result = clone.run_job(**FEW_STEPS)
    assert result.returncode == 0, said(result)
    assert (clone.folder / "output" / "demo" / "adapter").stat().st_uid == 10001
    check_that_the_user_owns_the_run(clone, "demo")


def test_a_run_made_outside_the_container_goes_on_in_it(make_clone):
    clone = make_clone(1000)
    made = clone.as_user("mkdir", "-p", "output/demo/data.partial")
    assert made.returncode == 0
    result = clone.run_job(**FEW_STEPS)
    assert result.returncode == 0, said(result)


def test_a_spreadsheet_and_a_local_model_need_three_edits(make_clone, monkeypatch):
    clone = make_clone(1000)
    shutil.copytree(ROOT / "job" / "demo" / "base", clone.folder / "data" / "model")
    write_spreadsheet(clone)
    result = clone.run_job(MODEL_ID="data/model", TRAIN_DATA="data/mine.xlsx", RUN_NAME="mine", **FEW_STEPS)
    assert result.returncode == 0, said(result)
    check_that_the_user_owns_the_run(clone, "mine")
    monkeypatch.chdir(clone.folder)
    AutoPeftModelForSeq2SeqLM.from_pretrained("output/mine/adapter")
    answered = clone.compose("run", "--rm", "job", "predict", "data/mine.xlsx", "output/answers.xlsx")
    assert answered.returncode == 0, said(answered)
    assert clone.as_user("rm", "output/answers.xlsx").returncode == 0


def test_a_failing_job_gives_its_exit_code_and_tensorboard_stays_up(make_clone):
    clone = make_clone(1000)
    assert clone.compose("up", "--detach", "--wait", "tensorboard").returncode == 0
    result = clone.run_job(TRAIN_DATA="data/none.csv", MODEL_ID="job/demo/base")
    assert result.returncode == 66, said(result)
    assert "TRAIN_DATA=data/none.csv" in said(result)
    assert urllib.request.urlopen(f"http://127.0.0.1:{clone.port}/").status == 200


def test_stopping_the_job_tells_python_and_leaves_143(make_clone):
    clone = make_clone(1000)
    (clone.folder / ".env").write_text("NUM_TRAIN_EPOCHS=500\n")
    assert clone.compose("up", "--detach", "job").returncode == 0
    container = clone.compose("ps", "--all", "--quiet", "job").stdout.strip()
    with subprocess.Popen(["docker", "logs", "--follow", container], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as logs:
        assert any("loss" in line for line in logs.stderr), "training did not begin"
        clone.compose("stop", "job")
    status = json.loads((clone.folder / "output" / "demo" / "status.json").read_text())
    assert (status["exit_code"], status["retryable"]) == (143, True)
    state = json.loads(clone.compose("ps", "--all", "--format", "json", "job").stdout)
    assert (state["State"], state["ExitCode"]) == ("exited", 143)


def test_output_that_cannot_be_made_writable_is_73(make_clone):
    clone = make_clone(1000)
    output = clone.folder / "output"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", output], check=True)
    try:
        result = clone.run_job()
        logged = clone.compose("logs", "--no-log-prefix", "job").stdout  # `up` may come too late for a job this short
    finally:
        clone.compose("rm", "--force", "--stop")
        subprocess.run(["umount", output], check=True)
    assert result.returncode == 73, said(result)
    assert "OUTPUT_DIR: /output: on a read-only file system" in logged
    assert "Mount it writable." in logged


@pytest.mark.parametrize("folder", ["data", "output"])
def test_a_missing_folder_is_named_and_not_made_by_root(make_clone, folder):
    clone = make_clone(1000)
    shutil.rmtree(clone.folder / folder)
    result = clone.run_job()
    assert result.returncode != 0
    assert f"{clone.folder / folder}" in said(result)
    assert "does not exist" in said(result)
    assert not (clone.folder / folder).exists()


def test_without_a_gpu_the_plain_file_says_what_the_readme_quotes(make_clone):
    result = make_clone(1000).compose("up", "job", files=())
    assert result.returncode != 0
    assert "could not select device driver" in said(result)
    assert "could not select device driver" in (ROOT / "README.md").read_text()


def test_a_token_comes_from_a_file_that_no_log_shows(make_clone):
    clone = make_clone(1000)
    (clone.folder / "token").write_text("hf_from_a_file\n")
    (clone.folder / ".env").write_text("HF_TOKEN_FILE=./token\n")
    read = "from job.config.environment import read_settings as r; print(len(r().hf_token.get_secret_value()), r().hf_token)"
    shown = clone.compose("run", "--rm", "--entrypoint", "env", "job", "PYTHONPATH=/app", "python", "-c", read)
    assert shown.stdout.strip() == "14 **********", said(shown)
    (clone.folder / "token").chmod(0o600)
    refused = clone.run_job(HF_TOKEN_FILE="./token")
    assert refused.returncode == 78, said(refused)
    assert "HF_TOKEN_FILE=/run/secrets/hf_token cannot be read: Permission denied." in said(refused)
    assert "hf_from_a_file" not in said(refused) + clone.compose("config").stdout


@pytest.mark.parametrize("files", [(), CPU, CLUSTER])
def test_every_combination_of_files_is_valid_and_hardened(make_clone, files):
    configured = make_clone(1000).compose("config", files=files)
    assert configured.returncode == 0, configured.stderr
    services = yaml.safe_load(configured.stdout)["services"]
    for service in services.values():
        assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert services["tensorboard"]["ports"][0]["host_ip"] == "127.0.0.1"
    assert ("deploy" in services["job"]) == (files != CPU)
    assert services["job"]["restart"] == "no"


def check_that_the_user_owns_the_run(clone: Clone, run_name: str) -> None:
    """The clone's user can read the adapter and delete whatever is in the run's folder."""
    assert len(list((clone.folder / "output" / run_name).iterdir())) > 3
    unwritable = clone.as_user("find", f"output/{run_name}", "-type", "d", "-not", "-writable")
    unreadable = clone.as_user("find", f"output/{run_name}/adapter", "-not", "-readable")
    assert said(unwritable) + said(unreadable) == ""


def write_spreadsheet(clone: Clone) -> None:
    """Forty rows in data/mine.xlsx, with the default column names."""
    book = Workbook()
    book.active.append(["input", "output_ground_truth"])
    for number in range(40):
        book.active.append([f"ticket {number}: screen is black", f"display {number}"])
    book.save(clone.folder / "data" / "mine.xlsx")


def test_the_profile_try_trains_and_then_shows_the_page(make_clone):
    clone = make_clone(1000)
    (clone.folder / ".env").write_text(f"MAX_STEPS=3\nEVAL_MAX_ROWS=4\nSERVE_PORT={clone.port + 1}\n")
    started = clone.compose("--profile", "try", "up", "--detach", "--wait", "--wait-timeout", "300", "try")
    assert started.returncode == 0, said(started) + said(clone.compose("--profile", "try", "logs"))
    page = urllib.request.urlopen(f"http://localhost:{clone.port + 1}/healthz")
    assert json.loads(page.read()) == {"status": "ok", "waiting": 0}
    stopped = clone.compose("--profile", "try", "stop", "try")
    assert stopped.returncode == 0, said(stopped)
