"""What SWEEP may say, and the one line that answers what it may not."""

import pytest

from job.config.environment import read_settings
from job.config.search_space import SWEEPABLE, Axis, combinations, most_row_passes, read_axes, row_passes, values_of, with_values
from job.config.settings import Settings
from job.errors import SettingsError


def axes(sweep: str, **settings: object) -> tuple[Axis, ...]:
    return read_axes(Settings(sweep=sweep, **settings))


def test_a_range_and_a_list_are_read():
    rate, rank = axes("LEARNING_RATE=1e-4..3e-3 lora_r=8,16,32")
    assert (rate.name, rate.low, rate.high, rate.choices, rate.logarithmic) == ("learning_rate", 1e-4, 3e-3, (), True)
    assert (rank.name, rank.choices) == ("lora_r", ("8", "16", "32"))


def test_a_range_is_by_the_logarithm_from_a_ratio_of_ten_on():
    assert [axes(f"LORA_R=2..{end}")[0].logarithmic for end in (19, 20)] == [False, True]
    assert not axes("LORA_DROPOUT=0..0.3")[0].logarithmic


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            "LORA_R",
            r'SWEEP: "LORA_R" is no NAME=from\.\.to and no NAME=one,another, without spaces in it\. Write it like SWEEP="LEARN',
        ),
        ("LORA_R=8, 16", r'SWEEP: "LORA_R=8," is no NAME=from\.\.to and no NAME=one,another, without spaces'),
        ("LORA_R = 8,16", r'SWEEP: "LORA_R" is no NAME=from\.\.to and no NAME=one,another, without spaces'),
        (
            "LORA_R=8,16;LORA_ALPHA=8,16",
            r'SWEEP: there is a ";" in "LORA_R=8,16;LORA_ALPHA=8,16"\. Put a space between two variables',
        ),
        (
            "LEARNING_RATE=1e-4...1e-3",
            r"SWEEP: LEARNING_RATE=1e-4\.\.\.1e-3: there are three dots\. Write two, LEARNING_RATE=1e-4\.\.1e-3\.",
        ),
        ("LORA_R=", r'SWEEP: "LORA_R=" is no NAME='),
        ("LERNING_RATE=1,2", r"SWEEP: LERNING_RATE: no such variable\. Did you mean LEARNING_RATE\?"),
        ("XYZ=1,2", r"SWEEP: XYZ: no such variable\. docs/sweep\.md lists"),
        ("TRAIN_DATA=a.csv,b.csv", r"SWEEP: TRAIN_DATA cannot be swept: all trials share base model, rows and scores\."),
        ("MODEL_ID=a,b", "SWEEP: MODEL_ID cannot be swept"),
        ("SEED=1,2", "SWEEP: SEED cannot be swept"),
        ("LORA_R=8", "SWEEP: LORA_R=8 is one value. Give several, or set LORA_R=8 itself."),
        ("LORA_R=8,8", "SWEEP: LORA_R=8,8 is one value. Give several, or set LORA_R=8 itself."),
        ("LORA_R=8,16 LORA_R=2,4", "SWEEP: LORA_R is there twice. Keep one."),
        ("OPTIM=a..b", r"SWEEP: OPTIM=a\.\.b is no range of numbers\. List the values"),
        ("LR_SCHEDULER_TYPE=1..2", "is no range of numbers"),
        ("LEARNING_RATE=1e-4..inf", "is no range of numbers"),
        ("LORA_R=8..", r"SWEEP: LORA_R=8\.\. is no range of numbers"),
        ("LORA_R=16..8", "the first number is not below the second. Swap them."),
        ("LORA_R=1.5..8", r"SWEEP: LORA_R=1\.5\.\.8: whole numbers were expected"),
        ("LORA_R=0,8", r"SWEEP, LORA_R=0: expected greater than or equal to 1\. Change it in SWEEP\."),
        ("TRAIN_FRACTION=0.5..2", r"SWEEP, TRAIN_FRACTION=2\.0: expected less than or equal to 1"),
        ("LR_SCHEDULER_TYPE=linear,flat", "SWEEP, LR_SCHEDULER_TYPE=flat: expected 'linear'"),
        ("MAX_STEPS=3,4 NUM_TRAIN_EPOCHS=1,2", r"MAX_STEPS and NUM_TRAIN_EPOCHS are both set\. Keep one\."),
    ],
)
def test_what_cannot_be_swept_is_answered_in_one_line(sweep, message):
    with pytest.raises(SettingsError, match=message) as raised:
        axes(sweep)
    assert "\n" not in str(raised.value)


def test_a_value_that_contradicts_another_setting_names_both():
    with pytest.raises(SettingsError, match=r"EFFECTIVE_BATCH_SIZE=12 is no multiple of PER_DEVICE_TRAIN_BATCH_SIZE=8"):
        axes("EFFECTIVE_BATCH_SIZE=8,12", per_device_train_batch_size=8)


def test_a_wrong_sweep_is_answered_before_anything_is_imported_by_every_command(monkeypatch):
    monkeypatch.setenv("SWEEP", "LORA_R=0,8")
    with pytest.raises(SettingsError, match="LORA_R=0"):
        read_settings()


def test_every_name_that_can_be_swept_is_a_setting():
    assert set(SWEEPABLE) <= set(Settings.model_fields)


def test_a_plus_stands_for_the_commas_of_a_list():
    settings = Settings()
    (modules,) = axes("TARGET_MODULES=q+v,all-linear")
    assert [with_values(settings, {"target_modules": one}).target_modules for one in modules.choices] == [
        ("q", "v"),
        ("all-linear",),
    ]


def test_values_leave_all_other_settings_as_they_were():
    settings = Settings(lora_alpha=64, hf_token="hf_secret", run_name="r")
    changed = with_values(settings, {"lora_r": "8", "learning_rate": 1e-4})
    assert (changed.lora_r, changed.learning_rate) == (8, 1e-4)
    assert changed.model_copy(update={"lora_r": settings.lora_r, "learning_rate": settings.learning_rate}) == settings


def test_a_number_out_of_a_range_has_three_digits_and_stays_within_it():
    (rate,) = axes("LEARNING_RATE=1.23456e-4..3e-3")
    assert rate.rounded(0.00042371) == 0.000424
    assert rate.rounded(1.2346e-4) == 1.23456e-4
    assert axes("LORA_R=8..64")[0].rounded(33) == 33


def test_combinations_are_all_of_them_and_none_where_there_is_a_range():
    found = combinations(axes("LORA_R=8,16 USE_DORA=true,false"))
    assert [tuple(one.values()) for one in found] == [("8", "true"), ("8", "false"), ("16", "true"), ("16", "false")]
    assert combinations(axes("LORA_R=8,16 LEARNING_RATE=1e-4..1e-3")) == []


def test_the_settings_as_they_are_are_found_in_the_space():
    settings = Settings(sweep="LEARNING_RATE=1e-4..3e-3 LORA_R=8,016", lora_r=16)
    assert values_of(settings, read_axes(settings)) == {"learning_rate": 1e-3, "lora_r": "016"}
    outside = Settings(sweep="LORA_R=8,32")
    assert values_of(outside, read_axes(outside)) is None


def test_the_longest_training_of_a_space_is_the_one_with_most_rows():
    settings = Settings(sweep="NUM_TRAIN_EPOCHS=1..4 TRAIN_FRACTION=0.1,0.5 LORA_R=8,16")
    assert most_row_passes(settings, read_axes(settings), 100) == 4 * 50
    assert row_passes(Settings(max_steps=7, effective_batch_size=4), 100) == 28
