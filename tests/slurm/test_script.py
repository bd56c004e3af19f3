"""What lora-job.sbatch makes of the ends of its tasks, with a shell script in the place of the job."""


def test_each_task_is_told_its_rank_and_where_all_meet(job):
    told = 'echo "$RANK of $WORLD_SIZE, GPU $LOCAL_RANK, at $MASTER_ADDR:$MASTER_PORT: ${*: -1}"'
    job.submit("--nodes=2", **job.instead_of_the_program(told))
    job.wait_for("COMPLETED")
    port = 20000 + int(job.number)
    assert sorted(job.said()) == [f"{rank} of 2, GPU 0, at 127.0.0.1:{port}: run" for rank in range(2)]


def test_tasks_that_wait_in_vain_for_a_failed_one_are_ended(job):
    job.submit("--nodes=2", **job.instead_of_the_program("[ $RANK = 0 ] || exit 72; sleep 600"))
    job.wait_for("FAILED")
    assert job.tells("ExitCode") == "72:0"


def test_a_fault_that_comes_again_and_again_ends_the_job(job):
    job.submit("--nodes=2", **job.instead_of_the_program("exit $((138 - RANK))"))
    for _ in range(5):
        job.start_again()
    job.wait_for("FAILED")
    assert (job.tells("ExitCode"), job.tells("Restarts")) == ("137:0", "5")


def test_stops_are_not_counted_as_faults(job):
    job.submit("--nodes=2", **job.instead_of_the_program("[ ${SLURM_RESTART_COUNT:-0} = 6 ] || exit 143"))
    for _ in range(6):
        job.start_again()
    job.wait_for("COMPLETED")


def test_with_an_image_the_command_runs_in_apptainer_with_the_folders_of_the_image(job):
    program = job.folder / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text('#!/bin/bash\necho "$*"\n')
    program.chmod(0o755)
    job.submit("--nodes=1", IMAGE="lora-job.sif", PATH=f"{program.parent}:{job.cluster.environment['PATH']}")
    job.wait_for("COMPLETED")
    here = job.folder
    assert job.said() == [
        f"exec --nv --bind {here}:{here},{here}/output:/output,{here}/logs:/logs,{here}/cache:/cache --pwd {here} lora-job.sif "
        "env OUTPUT_DIR=/output LOGS_DIR=/logs HF_HOME=/cache/huggingface python /app/entrypoint.py run"
    ]
