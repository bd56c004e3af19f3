"""Every variable of the job, typed, with its default.

The line under a field is its help in `env.example` and docs/variables.md, the comment above a group of fields is its heading there.

Importing this module takes milliseconds: a wrong variable is answered before torch is imported.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEMO = "demo"
TENSORBOARD_PORT = 6006


def _length(text: str) -> str:
    """`text` if it is a length: "auto", a percentile like "p85", or a number of tokens."""
    number = text.removeprefix("p")
    if text == "auto" or (number.isdecimal() and (1 <= int(number) <= 100 or text == number != "0")):
        return text
    raise ValueError('a number of tokens, a percentile like "p85", or "auto" was expected')


def _split_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _without_service_address(value: object) -> object:
    """`value`, but the default port where Kubernetes put the address of a Service named "tensorboard" (tcp://10.0.0.1:6006)."""
    return TENSORBOARD_PORT if isinstance(value, str) and value.startswith(("tcp://", "udp://")) else value


Length = Annotated[str, AfterValidator(_length)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
FileFunction = Annotated[str, Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")]
Processes = Annotated[str, Field(pattern=r"^(auto|[1-9]\d*)$")]
Lengths = Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*/[1-9]\d*$")]
Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(_without_service_address)]
Schedule = Literal["no", "epoch", "steps"]


class Settings(BaseSettings):
    """The settings of one job, from the process environment and `.env`; see `environment.read_settings`."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,
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
    """Run Python code that comes with the model. Only for models whose code you have read."""
    allow_pickle: bool = False
    """Load weights that are not safetensors: such files can run code. Only for models that you trust."""
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
    """Python function that rewrites a row (dict to dict) before the template, as file.py:function."""
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
    preprocessing_num_workers: PositiveInt | None = None
    """Processes that tokenise; the number of CPU cores if not set."""

    # LoRA
    lora_r: PositiveInt = 16
    """Rank of the update matrices."""
    lora_alpha: PositiveInt = 32
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
    shard_base: Literal["auto", "true", "false"] = "auto"
    """Spread the base's frozen weights over the GPUs of the machine; auto: where one GPU cannot hold them."""
    join_minutes: PositiveFloat = 30
    """Minutes that the processes of one run wait for each other at the start."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the base's weights; auto: bf16 where that is fast, else fp16 on a GPU, fp32 on a CPU. The adapter is fp32."""
    quantization: Literal["auto", "none", "nf4", "int8"] = "auto"
    """Quantise the base model: nf4 (4 bit), int8 (GPUs from compute capability 7.5), none; auto is nf4 where none does not fit."""

    # Training
    num_train_epochs: PositiveFloat = 5
    """Passes over the training rows."""
    max_steps: PositiveInt | None = None
    """Optimizer steps, instead of NUM_TRAIN_EPOCHS."""
    effective_batch_size: PositiveInt = 8
    """Rows an optimizer step learns from."""
    per_device_train_batch_size: PositiveInt | None = None
    """Rows at once on the device, a divisor of EFFECTIVE_BATCH_SIZE, the rest is accumulation; as many as fit if not set."""
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate, after warm-up."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial"] = "linear"
    """How the learning rate falls."""
    warmup_steps: float = Field(0, ge=0)
    """Warm-up: a number of steps, or a share of all steps if below 1."""
    weight_decay: float = Field(0, ge=0)
    """Weight decay of AdamW."""
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "paged_adamw_8bit"] = "adamw_torch"
    """Optimizer, by its name in transformers."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradient norm to clip at; 0 does not clip."""
    gradient_checkpointing: Literal["auto", "true", "false"] = "auto"
    """Recompute activations in the backward pass: less memory, slower; auto: on as many blocks as the memory needs."""
    train_sampling_strategy: Literal["group_by_length", "random"] = "group_by_length"
    """Order of the rows: rows of like length together (less padding), or random."""
    padding_free: Literal["auto", "true", "false"] = "auto"
    """Pack the rows of a batch one after another instead of padding them: the same result, faster; auto: where it is."""
    seed: int = Field(42, ge=0, lt=2**32)
    """Seed of the split, the order of rows and the adapter's start."""
    logging_steps: PositiveInt = 10
    """Optimizer steps between two points of the curves."""
    save_strategy: Schedule = "epoch"
    """When to write a checkpoint."""
    save_steps: PositiveInt | None = None
    """Steps between two checkpoints, with SAVE_STRATEGY=steps."""
    checkpoint_minutes: PositiveFloat = 10
    """Minutes after which a checkpoint is written, whatever SAVE_STRATEGY says: what a sudden end may cost."""
    grace_s: PositiveFloat = 30
    """Seconds that the machine gives between a stop signal and its end; the job warns when a checkpoint takes longer."""
    max_hours: PositiveFloat | None = None
    """Hours that the job may take from start to end; training ends early enough to evaluate and publish within them."""
    full_determinism: bool = False
    """Bit for bit the same result on a GPU after an interruption too; slower. On a CPU it always is."""
    eval_strategy: Schedule = "epoch"
    """When to evaluate on the held-out rows while training."""
    eval_steps: PositiveInt | None = None
    """Steps between two evaluations, with EVAL_STRATEGY=steps."""
    eval_samples: int = Field(5, ge=0)
    """Held-out rows whose answers TensorBoard shows at each evaluation, always the same ones."""
    load_best_model_at_end: bool = True
    """Take the adapter as it was when METRIC_FOR_BEST_MODEL was best; else, and with EVAL_STRATEGY=no, the last one."""
    metric_for_best_model: str = "loss"
    """What decides which adapter is the best: loss, or any score, for which the held-out rows are answered at each evaluation."""
    early_stopping_patience: PositiveInt | None = None
    """Evaluations in a row without a new best one after which training ends."""
    report_to: Words = ("tensorboard",)
    """Trackers, comma separated, as transformers names them; none for none."""

    # Evaluation
    metrics: Words = ("exact_match", "token_f1", "rouge1", "rouge2", "rougeL", "rougeLsum", "chrf", "loss")
    """Scores of the outputs, comma separated."""
    metric: FileFunction | None = None
    """Your own score, as file.py:function; it takes an output and the right answer and returns a number."""
    max_new_tokens: PositiveInt | None = None
    """Longest output in tokens; the longest right answer and a quarter more if not set."""
    num_beams: PositiveInt = 1
    """Beams of the decoding; 1 is greedy."""
    per_device_eval_batch_size: PositiveInt | None = None
    """Rows answered at once in evaluation and predict; as many as fit the GPU, up to 256, if not set; 32 on a CPU."""
    predict_confidence: bool = False
    """Beside each answer of `predict` how sure the model is of it: the mean log-probability of its tokens, 0 at most."""
    eval_max_rows: PositiveInt = 1000
    """Held-out rows that base and adapter answer after training, at most."""

    # Merge
    merge_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the weights that `merge` writes; auto: that of the training."""

    # Plan
    plan_gpu: str | None = None
    """GPU of job/plan/gpus.toml that `plan` describes in full, such as V100-16GB; a table of all of them if not set."""
    plan_source_lengths: Lengths = "150/220/256"
    """Median, 95th percentile and longest of the inputs in tokens that `plan` assumes where TRAIN_DATA is not set."""
    plan_target_lengths: Lengths = "30/48/56"
    """Median, 95th percentile and longest of the answers in tokens that `plan` assumes where TRAIN_DATA is not set."""
    plan_rows: PositiveInt = 1000
    """Training rows that `plan` assumes where TRAIN_DATA is not set."""

    # Output
    gpu_hourly_cost: PositiveFloat | None = None
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
    tensorboard_port: Port = TENSORBOARD_PORT
    """Port of TensorBoard on this machine."""
    hf_home: Path | None = None
    """Cache of models and datasets."""
    overwrite: bool = False
    """Start a run of this name anew and delete what it left."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much to say; debug shows tracebacks."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Raises ValueError for settings that contradict each other; each message names both."""
        micro_batch = self.per_device_train_batch_size
        contradictions = {
            "MODEL_ID is not set, and the embedded demo model only reads appointments. Set MODEL_ID, "
            "for instance to google/flan-t5-base": self.train_data != DEMO and "model_id" not in self.model_fields_set,
            "HF_TOKEN and HF_TOKEN_FILE are both set. Keep one": self.hf_token and self.hf_token_file,
            "EVAL_DATA and EVAL_FRACTION are both set. Keep one": self.eval_data and self._given("eval_fraction"),
            "MAX_STEPS and NUM_TRAIN_EPOCHS are both set. Keep one": self.max_steps and self._given("num_train_epochs"),
            f"EFFECTIVE_BATCH_SIZE={self.effective_batch_size} is no multiple of PER_DEVICE_TRAIN_BATCH_SIZE={micro_batch}. "
            "Change one of them": micro_batch and self.effective_batch_size % micro_batch,
            "SAVE_STRATEGY=steps needs SAVE_STEPS. Set it": self.save_strategy == "steps" and not self.save_steps,
            "SAVE_STEPS needs SAVE_STRATEGY=steps. Set it": self.save_strategy != "steps" and self.save_steps,
            "EVAL_STRATEGY=steps needs EVAL_STEPS. Set it": self.eval_strategy == "steps" and not self.eval_steps,
            "EVAL_STEPS needs EVAL_STRATEGY=steps. Set it": self.eval_strategy != "steps" and self.eval_steps,
            "PUSH_TO_HUB=true needs HUB_MODEL_ID. Set it": self.push_to_hub and not self.hub_model_id,
            "EARLY_STOPPING_PATIENCE needs measurements, EVAL_STRATEGY=no is set. Change one of them": (
                self.early_stopping_patience and self.eval_strategy == "no"
            ),
            "EARLY_STOPPING_PATIENCE needs LOAD_BEST_MODEL_AT_END=true. Change one of them": (
                self.early_stopping_patience and not self.load_best_model_at_end
            ),
            "METRIC_FOR_BEST_MODEL needs measurements, EVAL_STRATEGY=no is set. Change one of them": (
                self._given("metric_for_best_model") and self.eval_strategy == "no"
            ),
            "QUANTIZATION=int8 needs a GPU, DEVICE=cpu is set. Use QUANTIZATION=nf4 or none": (
                self.quantization == "int8" and self.device == "cpu"
            ),
        }
        if found := next((message for message, is_true in contradictions.items() if is_true), None):
            raise ValueError(found)
        return self

    def _given(self, field: str) -> bool:
        return field in self.model_fields_set
