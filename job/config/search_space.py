"""SWEEP -> the settings that a sweep tries: a range or a list of values for each variable, every one of them checked."""

import contextlib
import difflib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from job.config.settings import Settings
from job.errors import SettingsError

OF_THE_ADAPTER = (
    "lora_r", "lora_alpha", "lora_dropout", "target_modules", "lora_bias", "use_rslora", "use_dora", "init_lora_weights",
)  # fmt: skip
"""What PEFT makes an adapter of."""
SWEEPABLE = (
    *OF_THE_ADAPTER,
    "num_train_epochs", "max_steps", "effective_batch_size", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay",
    "optim", "max_grad_norm", "train_sampling_strategy", "train_fraction",
)  # fmt: skip
"""What training alone reads: base model, prepared rows, decoding and scores are those of all trials."""
EXAMPLE = 'SWEEP="LEARNING_RATE=1e-4..3e-3 LORA_R=8,16,32"'
BY_LOGARITHM = 10
"""From this ratio of its ends on, a range is searched by the logarithm."""
DIGITS = 3
"""Of a number out of a range: what a person can copy."""

Value = str | int | float


@dataclass(frozen=True)
class Axis:
    """What a variable may be: one of `choices`, as they are written, or, where there are none, a number from `low` to `high`."""

    name: str
    """Of the setting."""
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    whole: bool = False
    """Whether the number is a whole one."""

    @property
    def logarithmic(self) -> bool:
        return self.low > 0 and self.high / self.low >= BY_LOGARITHM

    @property
    def ends(self) -> tuple[Value, ...]:
        """All choices, or both ends."""
        return self.choices or (_number(self, self.low), _number(self, self.high))

    def rounded(self, value: Value) -> Value:
        """`value` out of this range with the digits that a person reads."""
        if isinstance(value, str):
            return value
        short = value if self.whole else float(f"{value:.{DIGITS}g}")
        return _number(self, min(max(short, self.low), self.high))


def read_axes(settings: Settings) -> tuple[Axis, ...]:
    """The axes of SWEEP. Raises SettingsError for what is no variable, cannot be swept, or is refused by the variable.

    Between its ends a range may have values, and axes combinations, that `with_values` refuses.
    """
    if not settings.sweep or not settings.sweep.split():
        raise SettingsError(f"sweep: SWEEP is not set. Say what to try, such as {EXAMPLE}.")
    axes = tuple(_axis(part) for part in settings.sweep.split())
    names = [axis.name for axis in axes]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SettingsError(f"SWEEP: {twice.upper()} is there twice. Keep one.")
    for axis in axes:
        for value in axis.ends:
            with_values(settings, {axis.name: value})
    with_values(settings, {axis.name: axis.ends[0] for axis in axes})
    return axes


def with_values(settings: Settings, values: Mapping[str, Value]) -> Settings:
    """`settings` with these `values`, as SWEEP writes them. Raises SettingsError where they are refused, or contradict others."""
    given = settings.model_dump(exclude_unset=True, exclude={"hf_token", "hf_token_file"})
    try:
        made = Settings(**given | {name: _written(value) for name, value in values.items()})
    except ValidationError as error:
        problem = error.errors()[0]
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
        shown = " ".join(f"{name.upper()}={value}" for name, value in values.items())
        expected = f"expected {message.removesuffix(' was expected')}. Change it in SWEEP" if problem["loc"] else message
        raise SettingsError(f"SWEEP, {shown}: {expected}.") from None
    return settings.model_copy(update={name: getattr(made, name) for name in values})


def combinations(axes: Sequence[Axis]) -> list[dict[str, Value]]:
    """Every combination of the choices; none where an axis is a range."""
    return _corners(axes) if all(axis.choices for axis in axes) else []


def values_of(settings: Settings, axes: Sequence[Axis]) -> dict[str, Value] | None:
    """What `settings` are on these axes; None where they lie outside of one."""
    found: dict[str, Value] = {}
    for axis in axes:
        value = getattr(settings, axis.name)
        if axis.choices:
            same = [choice for choice in axis.choices if getattr(with_values(settings, {axis.name: choice}), axis.name) == value]
            found |= {axis.name: same[0]} if same else {}
        elif value is not None and axis.low <= value <= axis.high:
            found[axis.name] = value
    return found if len(found) == len(axes) else None


def most_row_passes(settings: Settings, axes: Sequence[Axis], rows: int) -> float:
    """Rows that the longest training of the space sees, counted at each pass."""
    own = [axis for axis in axes if axis.name in ("num_train_epochs", "max_steps", "effective_batch_size", "train_fraction")]
    passes = [0.0]
    for values in _corners(own):
        with contextlib.suppress(SettingsError):  # no trial has these values
            passes.append(row_passes(with_values(settings, values), rows))
    return max(passes)


def row_passes(settings: Settings, rows: int) -> float:
    """Rows that a training sees, counted at each pass, where `rows` are prepared."""
    if settings.max_steps:
        return settings.max_steps * settings.effective_batch_size
    return settings.num_train_epochs * max(1, round(rows * settings.train_fraction))


def _corners(axes: Sequence[Axis]) -> list[dict[str, Value]]:
    """Every combination of choices and ends of ranges."""
    names = [axis.name for axis in axes]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*[axis.ends for axis in axes])]


def _axis(part: str) -> Axis:
    """One `NAME=values` of SWEEP."""
    variable, is_there, values = part.partition("=")
    name = variable.lower()
    if not is_there or not values or part.endswith(","):
        raise SettingsError(
            f'SWEEP: "{part}" is no NAME=from..to and no NAME=one,another, without spaces in it. Write it like {EXAMPLE}.'
        )
    if ";" in part:
        raise SettingsError(f'SWEEP: there is a ";" in "{part}". Put a space between two variables, like {EXAMPLE}.')
    _check_name(variable)
    low, is_range, high = values.partition("..")
    if is_range:
        return _range(name, low, high, values)
    choices = tuple(dict.fromkeys(filter(None, values.split(","))))
    if len(choices) < 2:
        raise SettingsError(
            f"SWEEP: {variable}={values} is one value. Give several, or set {variable}={values.split(',')[0]} itself."
        )
    return Axis(name, choices)


def _check_name(variable: str) -> None:
    name = variable.lower()
    if name in SWEEPABLE:
        return
    known = [one.upper() for one in SWEEPABLE]
    if name not in Settings.model_fields:
        near = difflib.get_close_matches(variable.upper(), known, n=1)
        advice = f"Did you mean {near[0]}?" if near else "docs/sweep.md lists what can be swept."
        raise SettingsError(f"SWEEP: {variable}: no such variable. {advice}")
    raise SettingsError(
        f"SWEEP: {variable} cannot be swept: all trials share base model, rows and scores. docs/sweep.md lists what can be; "
        "for the rest start a run of each, and `compare` them."
    )


def _range(name: str, low: str, high: str, written: str) -> Axis:
    """The axis of a range of numbers. Raises SettingsError where it is none."""
    variable, numbers = name.upper(), []
    for end in (low, high):
        try:
            numbers.append(float(end))
        except ValueError:
            numbers.append(math.nan)
    if "..." in written:
        advice = f"Write two, {variable}={low}..{high.lstrip('.')}."
        raise SettingsError(f"SWEEP: {variable}={written}: there are three dots. {advice}")
    if not all(map(math.isfinite, numbers)) or not (_is_kind(name, "int") or _is_kind(name, "float")):
        raise SettingsError(f"SWEEP: {variable}={written} is no range of numbers. List the values, {variable}=one,another.")
    if numbers[0] >= numbers[1]:
        raise SettingsError(f"SWEEP: {variable}={written}: the first number is not below the second. Swap them.")
    whole = _is_kind(name, "int")
    if whole and not all(number.is_integer() for number in numbers):
        raise SettingsError(f"SWEEP: {variable}={written}: whole numbers were expected. Change it in SWEEP.")
    return Axis(name, low=numbers[0], high=numbers[1], whole=whole)


def _is_kind(name: str, kind: str) -> bool:
    """Whether a setting is an "int" or a "float", or that or nothing."""
    return re.search(rf"\b{kind}\b", str(Settings.model_fields[name].annotation)) is not None


def _number(axis: Axis, value: float) -> Value:
    return int(value) if axis.whole else value


def _written(value: Value) -> Value:
    """A choice as its variable has it: "q+v" stands for a list, whose commas SWEEP needs for itself."""
    return value.replace("+", ",") if isinstance(value, str) and not _is_float(value) else value


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
