"""Every variable of the job, typed, with its default.

The line under a field is its help in `env.example` and docs/variables.md, the comment above a group of fields is its heading there.

Importing this module takes milliseconds: a wrong variable is answered before torch is imported.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from job.config.field_types import DEMO, Amount, Count, FileFunction, Length, Lengths, Port, Processes, Schedule, Words
from job.config.settings_rules import refuse_contradictions, refuse_secrets

TENSORBOARD_PORT = 6006


class Settings(BaseSettings):
    """The settings of one job, from the process environment and `.env`; see `environment.read_settings`."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
        frozen=True,
        extra="ignore",
    )

    # Model
    model_id: str = DEMO
    """Base model: a hub id such as google/flan-t5-xl, a folder, or "demo" for the embedded one."""
    model_revision: str | None = None
    """Branch, tag or commit of the base model on the hub."""
    task: Literal["auto", "seq2seq", "causal"] = "auto"
    """Kind of model: seq2seq (encoder-decoder), causal (decoder-only), or auto to read it from the model's config."""
    trust_remote_code: bool = False
    """Run Python code that comes with MODEL_ID, and with no other model. Only for models whose code you have read."""
    allow_pickle: bool = False
    """Load weights of MODEL_ID that are not safetensors: such files can run code. Only for models that you trust."""
    hf_token: SecretStr | None = None
    """Hub token, for gated or private models."""
    hf_token_file: Path | None = None
    """File that holds the hub token (a Docker or Kubernetes secret)."""

    # Data
    train_data: str = DEMO
    """xlsx, xls, ods, csv, jsonl, json, parquet or arrow file, folder, glob, hub dataset id, or "demo" for the embedded one."""
    eval_data: str | None = None
    """Held-out rows, in any of the same forms. Without it the validation or test part of TRAIN_DATA, else EVAL_FRACTION of it."""
    eval_fraction: float = Field(0.2, gt=0, lt=1)
    """Share of the rows that is held out when there is no EVAL_DATA. If it is set, a test part of TRAIN_DATA is not used."""
    test_fraction: float = Field(0, ge=0, lt=1)
    """Share of the held-out rows that the verdict alone sees; the others choose the adapter. 0: all do both, 0.5 in a sweep."""
    train_fraction: float = Field(1, gt=0, le=1)
    """Share of the training rows that is used: what would fewer have done? A smaller share is a part of a larger one."""
    input_column: str = "auto"
    """Column of the inputs, or a field inside one (translation.en); auto: by the usual names, see docs/data.md."""
    target_column: str = "auto"
    """Column of the right answers, or a field inside one (answers.text); auto: by the usual names, see docs/data.md."""
    messages_column: str = "auto"
    """Column of chats (causal models); auto: messages or conversations. What it may hold: docs/chats.md."""
    empty_rows: Literal["error", "drop"] = "error"
    """What happens to rows without an input or an answer: error names them, drop leaves them out. Blank rows are skipped."""
    sheet: str | None = None
    """Sheet of a spreadsheet file; the first one that is not hidden if not set."""
    train_split: str = "train"
    """Split of TRAIN_DATA, where it is a hub dataset, a saved DatasetDict, or a folder with files for train and test."""
    eval_split: str = "test"
    """Split of EVAL_DATA, where it has several; "validation" where it has no "test"."""
    source_language: str | None = None
    """Language of the inputs, by the model's name for it (mBART: en_XX, NLLB: eng_Latn, M2M100: en); unset, as the log says."""
    target_language: str | None = None
    """Language of the answers, for the same models; unset, the tokenizer's or the model's own if there is one, as the log says."""
    prompt_template: str = "auto"
    """What the model reads: {input} is INPUT_COLUMN, {any other column} works too, or Jinja; auto: that of the data's shape."""
    preprocess: FileFunction | None = None
    """Python function that rewrites a row (dict to dict) before the template, as file.py:function; `predict` needs it too."""
    max_source_length: Length = "auto"
    """Longest input in tokens: a number, a percentile of the data (p85), or auto: what data needs and model takes."""
    max_target_length: Length = "auto"
    """Longest answer in tokens: a number, a percentile of the data (p90), or auto."""
    too_long: Literal["truncate", "drop", "error"] = "truncate"
    """What happens to a row that is longer."""
    max_truncated_targets: float = Field(0.01, ge=0, le=1)
    """Share of training rows whose answer may be cut; with more the job stops before training."""
    max_unknown_targets: float = Field(0.01, ge=0, le=1)
    """Share of training rows whose answer may hold characters that the model's tokenizer lacks; with more the job stops."""
    add_tokens: str = "none"
    r"""Characters that the model's tokenizer lacks and shall learn, such as {}<\n; auto: all that the answers hold; or none."""
    preprocessing_num_workers: Count | None = None
    """Processes that tokenise; the number of CPU cores if not set."""

    # LoRA
    lora_r: Count = 16
    """Rank of the update matrices."""
    lora_alpha: Count = 32
    """Scale of the update: alpha / r."""
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: Words = ("auto",)
    """Modules to adapt, comma separated; auto takes those that make queries and values, all-linear every one that text passes."""
    lora_bias: Literal["none", "all", "lora_only"] = "none"
    """Biases to train."""
    modules_to_save: Words = ()
    """Modules to train in full beside the adapter, comma separated."""
    use_rslora: bool = False
    """Rank-stabilised LoRA: scale alpha / sqrt(r)."""
    use_dora: bool = False
    """DoRA: magnitude and direction apart."""
    init_lora_weights: Literal["default", "gaussian", "orthogonal"] = "default"
    """How the adapter starts: always without effect on the base, unlike PiSSA and OLoRA, which alter the base's weights."""

    # Precision and hardware
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to train; cuda makes a missing GPU an error, auto falls back to the CPU."""
    nproc_per_node: Processes = "auto"
    """Processes that train and evaluate together on this machine, one per GPU; auto: as many as there are GPUs."""
    nnodes: Count = 1
    """Machines that train together, each with as many GPUs, started with the same variables but for NODE_RANK."""
    node_rank: NonNegativeInt = 0
    """Number of this machine among them, from 0 on; machine 0 alone needs OUTPUT_DIR."""
    master_addr: str | None = None
    """Name or address of machine 0, which all of them reach."""
    master_port: Port | None = None
    """Port of machine 0 where they meet; 29500 if not set, on one machine any that is free."""
    shard_base: Literal["auto", "true", "false"] = "auto"
    """Spread the base's frozen weights over all GPUs of the run; auto: where one GPU cannot hold them."""
    join_minutes: Amount = 30
    """Minutes that the processes of one run wait for each other at the start."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the base's weights; auto: bf16 where that is fast, else fp16 on a GPU, fp32 on a CPU. The adapter is fp32."""
    quantization: Literal["auto", "none", "nf4", "int8"] = "auto"
    """Quantise the base model: nf4 (4 bit), int8 (GPUs from compute capability 7.5), none; auto is nf4 where none does not fit."""

    # Training
    num_train_epochs: Amount = 5
    """Passes over the training rows."""
    max_steps: Count | None = None
    """Optimizer steps, instead of NUM_TRAIN_EPOCHS."""
    effective_batch_size: Count = 8
    """Rows an optimizer step learns from."""
    per_device_train_batch_size: Count | None = None
    """Rows at once on the device, a divisor of EFFECTIVE_BATCH_SIZE, the rest is accumulation; as many as fit if not set."""
    learning_rate: Amount = 1e-3
    """Peak learning rate, after warm-up."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial"] = "linear"
    """How the learning rate falls."""
    warmup_steps: float = Field(0, ge=0, lt=2**31)
    """Warm-up: a number of steps, or a share of all steps if below 1."""
    weight_decay: float = Field(0, ge=0, lt=1e6)
    """Weight decay of AdamW."""
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "paged_adamw_8bit"] = "adamw_torch"
    """Optimizer, by its name in transformers."""
    max_grad_norm: float = Field(1.0, ge=0, lt=1e30)
    """Gradient norm to clip at; 0 does not clip."""
    gradient_checkpointing: Literal["auto", "true", "false"] = "auto"
    """Recompute activations in the backward pass: less memory, slower; auto: on as many blocks as the memory needs."""
    train_sampling_strategy: Literal["group_by_length", "random"] = "group_by_length"
    """Order of the rows: rows of like length together (less padding), or random."""
    padding_free: Literal["auto", "true", "false"] = "auto"
    """Pack the rows of a batch one after another instead of padding them: the same result, faster; auto: where it is."""
    seed: int = Field(42, ge=0, lt=2**32)
    """Seed of the split, the order of rows and the adapter's start."""
    logging_steps: Count = 10
    """Optimizer steps between two points of the curves."""
    save_strategy: Schedule = "epoch"
    """When to write a checkpoint."""
    save_steps: Count | None = None
    """Steps between two checkpoints, with SAVE_STRATEGY=steps."""
    checkpoint_minutes: Amount = 10
    """Minutes after which a checkpoint is written, whatever SAVE_STRATEGY says: what a sudden end may cost."""
    grace_s: Amount = 30
    """Seconds that the machine gives between a stop signal and its end; the job warns when a checkpoint takes longer."""
    max_hours: Amount | None = None
    """Hours that the job may take from start to end; training ends early enough to evaluate and publish within them."""
    full_determinism: bool = False
    """Bit for bit the same result on a GPU after an interruption too; slower. On a CPU it always is."""
    eval_strategy: Schedule = "epoch"
    """When to evaluate on the held-out rows while training."""
    eval_steps: Count | None = None
    """Steps between two evaluations, with EVAL_STRATEGY=steps."""
    eval_samples: int = Field(5, ge=0, lt=2**31)
    """Held-out rows whose answers TensorBoard shows at each evaluation, always the same ones."""
    load_best_model_at_end: bool = True
    """Take the adapter as it was when METRIC_FOR_BEST_MODEL was best; else, and with EVAL_STRATEGY=no, the last one."""
    metric_for_best_model: str = "loss"
    """What decides which adapter is the best: loss, or any score, for which the held-out rows are answered at each evaluation."""
    early_stopping_patience: Count | None = None
    """Evaluations in a row without a new best one after which training ends."""
    report_to: Words = ("tensorboard",)
    """Trackers, comma separated, as transformers names them; none for none."""

    # Evaluation
    metrics: Words = ("exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "rougeLsum", "chrf", "loss")
    """Scores of the outputs, comma separated."""
    metric: FileFunction | None = None
    """Your own score, as file.py:function; it takes an output and the right answer and returns a number."""
    max_new_tokens: Count | None = None
    """Longest output in tokens; the longest right answer and a quarter more if not set."""
    num_beams: int = Field(1, ge=1, le=1000)
    """Beams of the decoding; 1 is greedy."""
    per_device_eval_batch_size: Count | None = None
    """Rows answered at once in evaluation and predict; as many as fit the GPU, up to 256, if not set; 32 on a CPU."""
    predict_confidence: bool = False
    """Beside each answer of `predict` how sure the model is of it: the mean log-probability of its tokens, 0 at most."""
    eval_max_rows: Count = 1000
    """Held-out rows that base and adapter answer after training, at most."""

    # Merge
    merge_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the weights that `merge` writes; auto: that of the training."""

    # Serve
    serve_host: str = "127.0.0.1"
    """Address that `serve` listens on: this machine only; 0.0.0.0 for every network that the machine is in."""
    serve_port: Port = 8000
    """Port of `serve`."""
    serve_token: SecretStr | None = None
    """What a program must send as Authorization: Bearer ..., and a person types into the page; nothing if not set."""
    serve_names: Words = ()
    """Names other than localhost that this machine is reached by, comma separated; requests to others are refused."""
    serve_queue: int = Field(256, ge=2, lt=2**31)  # the page asks two at once
    """Questions that may wait for `serve`, those of tables aside; more are refused until some are answered."""

    # Plan
    plan_gpu: str | None = None
    """GPU of job/plan/gpus.toml that `plan` describes in full, such as V100-16GB; a table of all of them if not set."""
    plan_source_lengths: Lengths = "150/220/256"
    """Median, 95th percentile and longest of the inputs in tokens that `plan` assumes where TRAIN_DATA is not set."""
    plan_target_lengths: Lengths = "30/48/56"
    """Median, 95th percentile and longest of the answers in tokens that `plan` assumes where TRAIN_DATA is not set."""
    plan_rows: Count = 1000
    """Training rows that `plan` assumes where TRAIN_DATA is not set."""
    plan_hours: Amount | None = None
    """Deadline: `plan` also says which GPUs, and how many, train within so many hours at the lowest price."""

    # Sweep
    sweep: str | None = None
    """What `sweep` searches: NAME=from..to for numbers, NAME=one,another for anything, with spaces between; docs/sweep.md."""
    sweep_trials: Count = 12
    """Runs that `sweep` tries."""
    sweep_hours: Amount | None = None
    """Hours of all trials of `sweep`: none is begun that would not end within them, by the speed measured; then the verdict."""
    sweep_usd: Amount | None = None
    """The same as a price in USD, at GPU_HOURLY_COST or the catalogue's price."""

    # Output
    gpu_hourly_cost: Amount | None = None
    """Price of this machine in USD an hour, for the cost in the report; the catalogue's price for that GPU if not set."""
    push_to_hub: bool = False
    """Upload adapter and card to HUB_MODEL_ID at the end; a run whose upload fails is done all the same."""
    hub_model_id: str | None = None
    """Repository on the hub, such as me/my-adapter; made if it is not there. HF_TOKEN must be one that may write."""
    hub_private_repo: bool = True
    """Whether a repository that is made is private."""
    run_name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Folder of this run in OUTPUT_DIR and LOGS_DIR; the model's and the data's short names if not set."""
    output_dir: Path = Path("output")
    """Folder of the adapters and reports of all runs."""
    logs_dir: Path = Path("logs")
    """Folder of the TensorBoard curves of all runs."""
    export_dir: Path | None = None
    """Folder that gets a copy of the adapter when the run is done, where an engine collects it (SageMaker, Vertex AI)."""
    tensorboard_port: Port = TENSORBOARD_PORT
    """Port of TensorBoard on this machine."""
    hf_home: Path | None = None
    """Cache of models and datasets."""
    overwrite: bool = False
    """Start a run of this name anew and delete what it left."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much to say; debug shows tracebacks."""

    _hold_no_secret = model_validator(mode="before")(refuse_secrets)
    _agree = model_validator(mode="after")(refuse_contradictions)

    @property
    def written_folders(self) -> dict[str, Path]:
        """Where the job writes, by the variable that says so."""
        folders = {"OUTPUT_DIR": self.output_dir, "LOGS_DIR": self.logs_dir}
        others = {"HF_HOME": self.hf_home, "EXPORT_DIR": self.export_dir}
        return folders | {variable: folder for variable, folder in others.items() if folder}
