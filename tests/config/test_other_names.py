"""The table of other tools' names: it leads only to variables that exist, and leaves other programs' variables alone."""

import re

import pytest

from job.config.environment import KNOWN, check_names, nearest_name
from job.config.other_names import ADVICE, OF_OTHER_PROGRAMS, OFTEN_SOMEBODY_ELSES, OTHER_MEANING, SAME_MEANING
from job.errors import SettingsError

ORDINARY = """
    PATH HOME USER SHELL LANG LC_ALL TERM PWD HOSTNAME LOGNAME MAIL TZ EDITOR VIRTUAL_ENV PYTHONPATH DISPLAY SHLVL LS_COLORS OLDPWD
    XDG_RUNTIME_DIR SSH_CONNECTION TMPDIR COLUMNS LINES LIBRARY_PATH LD_LIBRARY_PATH MAKEFLAGS MAKELEVEL MFLAGS GPG_KEY CI
    DEBIAN_FRONTEND PYTHON_VERSION NO_PROXY HTTPS_PROXY SSL_CERT_FILE REQUESTS_CA_BUNDLE PIP_CERT PIP_INDEX_URL PIP_CONFIG_FILE
    NVIDIA_VISIBLE_DEVICES NVIDIA_REQUIRE_CUDA NV_CUDA_CUDART_VERSION NVARCH CUDA_VISIBLE_DEVICES CUDA_HOME CUDA_VERSION
    HF_HUB_OFFLINE HF_ENDPOINT HF_DATASETS_CACHE HF_TOKEN_PATH HF_HUB_CACHE HF_HUB_DISABLE_TELEMETRY TRANSFORMERS_CACHE
    TORCH_HOME TORCHELASTIC_RUN_ID OMP_NUM_THREADS TOKENIZERS_PARALLELISM WANDB_API_KEY MLFLOW_EXPERIMENT_NAME MLFLOW_RUN_ID
    WORLD_SIZE RANK LOCAL_RANK GROUP_RANK ROLE_RANK LOCAL_WORLD_SIZE ROLE_WORLD_SIZE
    PET_NNODES PET_NPROC_PER_NODE PET_NODE_RANK PET_MASTER_ADDR PET_MASTER_PORT PET_RDZV_ENDPOINT PET_MAX_RESTARTS
    SM_MODEL_DIR SM_OUTPUT_DIR SM_OUTPUT_DATA_DIR SM_INPUT_DIR SM_CHANNEL_TRAIN SM_NUM_GPUS SM_HPS SM_HP_LEARNING_RATE SM_LOG_LEVEL
    TRAINING_JOB_NAME TRAINING_JOB_ARN AWS_REGION AWS_BATCH_JOB_ID AIP_MODEL_DIR AIP_TENSORBOARD_LOG_DIR CLOUD_ML_JOB_ID
    AZUREML_RUN_ID AZUREML_MODEL_DIR RUNPOD_POD_ID VAST_CONTAINERLABEL CONTAINER_ID SKYPILOT_NUM_NODES SKYPILOT_TASK_ID
    SLURM_JOB_ID SLURM_JOB_NAME SLURM_PROCID SLURM_LOCALID SLURM_NTASKS SLURM_SUBMIT_DIR SLURM_STEP_ID SLURM_MEM_PER_NODE
    SLURM_GPUS_ON_NODE OMPI_COMM_WORLD_RANK PMI_RANK LSB_JOBID PBS_JOBID RAY_ADDRESS
    KUBERNETES_SERVICE_HOST KUBERNETES_PORT KUBERNETES_PORT_443_TCP_ADDR POD_NAME POD_NAMESPACE NODE_NAME JOB_COMPLETION_INDEX
    JOB_NAME TASK_NAME INPUT_DIR DATA_DIR CACHE_DIR TASK_TYPE MODEL_TYPE PROMPT DATA_PATH NUM_WORKERS SAVE_DIR DROPOUT
    TENSORBOARD_SERVICE_HOST TENSORBOARD_SERVICE_PORT TENSORBOARD_SERVICE_PORT_HTTP TENSORBOARD_PORT_6006_TCP
    TENSORBOARD_PORT_6006_TCP_ADDR TENSORBOARD_PORT_6006_TCP_PROTO LORA_JOB_SERVICE_HOST LORA_JOB_PORT_80_TCP LORA_R_PORT
    SEED_SERVICE_HOST OPTIM_PORT METRICS_SERVICE_PORT METRICS_PORT OUTPUT_DIR_PORT DEVICE_PORT EVAL_DATA_SERVICE_PORT
""".split()  # noqa: SIM905  a page of strings is hard to read

WRONG_IN_THE_ENVIRONMENT = """
    MICRO_BATCH_SIZE MAX_LENGTH MAX_SEQ_LENGTH CUTOFF_LEN SEQUENCE_LEN GRADIENT_ACCUMULATION_STEPS WARMUP_RATIO FP16 BF16
    LOAD_IN_4BIT LOAD_IN_8BIT OPTIMIZER LR_SCHEDULER EVALUATION_STRATEGY GROUP_BY_LENGTH LORA_RANK LORA_TARGET_MODULES
    LORA_TARGET_LINEAR EPOCHS BATCH_SIZE LR MODEL_NAME_OR_PATH BASE_MODEL VAL_SET_SIZE SAMPLE_PACKING HUGGING_FACE_HUB_TOKEN
    HF_TOKN HF_HOM TENSORBOARD_PROT
""".split()  # noqa: SIM905


def test_ordinary_variables_of_a_machine_are_no_mistakes():
    assert {name: nearest_name(name, strict=False) for name in ORDINARY} == dict.fromkeys(ORDINARY)


@pytest.mark.parametrize("name", WRONG_IN_THE_ENVIRONMENT)
def test_names_that_no_other_program_has_are_mistakes_in_the_process_environment_too(name):
    with pytest.raises(SettingsError, match=rf"^{name}: no such variable\. "):
        check_names([name], where="", strict=False)


def test_every_variable_with_one_letter_missing_is_found_out():
    for name in KNOWN:
        for place in range(len(name)) if len(name) > 6 else ():
            misspelt = name[:place] + name[place + 1 :]
            assert misspelt in KNOWN or nearest_name(misspelt, strict=True) is not None, misspelt


def test_the_table_has_each_name_once_and_none_of_ours():
    others = [*" ".join(SAME_MEANING.values()).split(), *OTHER_MEANING]
    assert len(others) == len(set(others)) == len(ADVICE)
    assert not set(others) & set(KNOWN)
    assert set(ADVICE) >= OFTEN_SOMEBODY_ELSES


def test_the_table_sends_nobody_to_a_variable_that_is_not_there():
    assert set(SAME_MEANING) <= set(KNOWN)
    named = {word for sentence in ADVICE.values() for word in re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", sentence)} - {"LoRA"}
    assert len(named) > 50
    assert named - set(KNOWN) == set()


@pytest.mark.parametrize(
    ("theirs", "sentence"),
    [
        ("MICRO_BATCH_SIZE", "Did you mean PER_DEVICE_TRAIN_BATCH_SIZE?"),
        ("GRADIENT_ACCUMULATION_STEPS", "Set EFFECTIVE_BATCH_SIZE: accumulation follows from it."),
        ("GRADIENT_ACUMULATION_STEPS", "Set EFFECTIVE_BATCH_SIZE: accumulation follows from it."),
        ("WARMUP_RATIO", "Set WARMUP_STEPS: below 1 it is a share of all steps."),
        ("MAX_LENGTH", "Set MAX_SOURCE_LENGTH (tokens of an input) and MAX_TARGET_LENGTH (tokens of an answer)."),
        ("LOAD_IN_4BIT", "Set QUANTIZATION to nf4 (4 bit), int8 (8 bit) or none."),
        ("R", "Did you mean LORA_R?"),
        ("RANK", "Did you mean LORA_R?"),
        ("HF_API_TOKEN", "Did you mean HF_TOKEN?"),
        ("LERNING_RATE", "Did you mean LEARNING_RATE?"),
        ("COLOUR", "env.example lists all of them."),
    ],
)
def test_in_dotenv_each_is_answered_in_a_sentence(theirs, sentence):
    with pytest.raises(SettingsError) as raised:
        check_names([theirs], where=" in .env", strict=True)
    assert str(raised.value) == f"{theirs} in .env: no such variable. {sentence}"


@pytest.mark.parametrize(
    "name",
    ["COMPOSE_PROJECT_NAME", "IMAGE", "BASE_IMAGE", "PIP_CERT", "http_proxy", "NO_PROXY", "HF_ENDPOINT", "NVIDIA_VISIBLE_DEVICES"],
)
def test_what_compose_and_the_libraries_read_may_stand_in_dotenv(name):
    check_names([name], where=" in .env", strict=True)


def test_no_variable_of_ours_begins_like_another_programs_but_those_that_are_shared():
    shared = {"HF_TOKEN", "HF_TOKEN_FILE", "HF_HOME", "TENSORBOARD_PORT"}
    assert {name for name in KNOWN if name.startswith(OF_OTHER_PROGRAMS)} == shared
