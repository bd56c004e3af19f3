"""Each mistake gets one line that says what to do, its exit code, and leaves nothing half-written."""

import json
import shutil
from pathlib import Path

import pytest
from openpyxl import Workbook
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from tests.data.chat_templates import CHATML, GEMMA2

GOOD = [{"input": f"day {number}", "output_ground_truth": f"answer {number}"} for number in range(20)]


def changed(index: int, column: str, value: object) -> list[dict]:
    """The good rows with one cell replaced."""
    return [row | {column: value} if place == index else row for place, row in enumerate(GOOD)]


def fail(run_job, t5_folder, code: int, *fragments: str, **variables: object) -> None:
    """Runs the job and checks the exit code, the message and that nothing half-made is left."""
    found, said = run_job(**{"MODEL_ID": t5_folder, "RUN_NAME": "r"} | variables)
    assert found == code, said
    message = said.splitlines()[-1]
    assert all(fragment in message for fragment in fragments), message
    left = {path.name for path in Path("output/r").iterdir()} if Path("output/r").exists() else set()
    assert left <= {".lock", "status.json", "settings.json"}
    if "status.json" in left:
        status = json.loads(Path("output/r/status.json").read_text())
        assert (status["state"], status["exit_code"], status["error"]) == ("failed", code, message)


def test_no_file(run_job, t5_folder):
    fail(run_job, t5_folder, 66, "TRAIN_DATA=nothing.csv: no such file", TRAIN_DATA="nothing.csv")


def test_a_folder_without_data(run_job, t5_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    fail(run_job, t5_folder, 66, "no file there that ends in", TRAIN_DATA="empty")


@pytest.mark.parametrize("name", ["empty.csv", "empty.xlsx", "empty.jsonl", "empty.parquet"])
def test_an_empty_file(run_job, t5_folder, name):
    Path(name).touch()
    fail(run_job, t5_folder, 65, f"{name} is empty", TRAIN_DATA=name)


def test_a_header_without_rows(run_job, t5_folder):
    Path("a.csv").write_text("input,output_ground_truth\n")
    fail(run_job, t5_folder, 65, "TRAIN_DATA=a.csv: no rows", TRAIN_DATA="a.csv")


def test_a_column_that_is_not_there(run_job, t5_folder):
    Path("a.csv").write_text("dialogue,text\na,b\n")
    wanted = 'TRAIN_DATA=a.csv: no column "summary"; found "dialogue", "text". Set TARGET_COLUMN to one of them.'
    fail(run_job, t5_folder, 65, wanted, TRAIN_DATA="a.csv", TARGET_COLUMN="summary", INPUT_COLUMN="dialogue")


@pytest.mark.parametrize("value", [None, "", "  "])
def test_an_empty_cell(run_job, t5_folder, write_rows, value):
    rows = changed(3, "output_ground_truth", value)
    fail(run_job, t5_folder, 65, 'row 4, column "output_ground_truth": the cell is empty', TRAIN_DATA=write_rows(rows, "a.jsonl"))


def test_columns_that_can_be_read_in_two_ways(run_job, t5_folder, write_rows):
    rows = [{"question": f"q {number}", "answer": "a", "text": f"t {number}", "label": "b"} for number in range(20)]
    wanted = "INPUT_COLUMN=question with TARGET_COLUMN=answer, or INPUT_COLUMN=text with TARGET_COLUMN=label. Set what you mean."
    fail(run_job, t5_folder, 65, wanted, TRAIN_DATA=write_rows(rows))


def test_columns_of_no_usual_name(run_job, t5_folder, write_rows):
    rows = [{"frage": f"q {number}", "antwort": "a"} for number in range(20)]
    wanted = 'no usual pair of input and right answer; found "frage", "antwort". Set INPUT_COLUMN and TARGET_COLUMN.'
    fail(run_job, t5_folder, 65, wanted, TRAIN_DATA=write_rows(rows))


def test_a_template_that_fails_on_a_row(run_job, t5_folder, write_rows):
    wanted = "row 1: PROMPT_TEMPLATE: UndefinedError: 'str object' has no attribute 'de'. Fix it."
    fail(run_job, t5_folder, 78, wanted, TRAIN_DATA=write_rows(GOOD, "a.jsonl"), PROMPT_TEMPLATE="{{ input.de }}")


def test_a_template_whose_input_may_be_two_columns(run_job, t5_folder, write_rows):
    rows = [row | {"question": row["input"]} for row in GOOD]
    wanted = '{input} may be the column "input" or INPUT_COLUMN=question'
    fail(run_job, t5_folder, 78, wanted, TRAIN_DATA=write_rows(rows), INPUT_COLUMN="question", PROMPT_TEMPLATE="Say {input}")


def test_a_csv_that_is_utf_8_but_for_a_line(run_job, t5_folder):
    Path("a.csv").write_bytes("input,output_ground_truth\né,è\n".encode() + "café,x\n".encode("latin-1"))
    fail(run_job, t5_folder, 65, "line 3 is not UTF-8", "CSV UTF-8", TRAIN_DATA="a.csv")


def test_a_csv_with_ragged_rows(run_job, t5_folder):
    Path("a.csv").write_text("input,output_ground_truth\na,b\nc,d,e\n")
    fail(run_job, t5_folder, 65, "row 3 has 3 cells, the header has 2", TRAIN_DATA="a.csv")


def test_a_csv_with_an_open_quote(run_job, t5_folder):
    Path("a.csv").write_text('input,output_ground_truth\n"a,b\nc,d\n')
    fail(run_job, t5_folder, 65, "Check the double quotes", TRAIN_DATA="a.csv")


def test_a_csv_with_a_column_twice(run_job, t5_folder):
    Path("a.csv").write_text("input,input,output_ground_truth\na,b,c\n")
    fail(run_job, t5_folder, 65, 'column "input": 2 columns have that name', TRAIN_DATA="a.csv")


def test_broken_json(run_job, t5_folder):
    Path("a.jsonl").write_text('{"input": "a", "output_ground_truth": "b"}\n{"input": "a",\n')
    fail(run_job, t5_folder, 65, "line 2, character", "invalid JSON", TRAIN_DATA="a.jsonl")
    Path("a.json").write_text('[\n{"input": "a"},\n{"input" "b"}\n]')
    fail(run_job, t5_folder, 65, "line 3, character 10", TRAIN_DATA="a.json")


def test_json_that_holds_no_rows(run_job, t5_folder):
    Path("a.jsonl").write_text('"a"\n')
    fail(run_job, t5_folder, 65, "row 1 is a text or a number, and no object", TRAIN_DATA="a.jsonl")
    Path("a.json").write_text("3")
    fail(run_job, t5_folder, 65, "a list of objects was expected", TRAIN_DATA="a.json")


def test_a_file_that_is_not_what_its_ending_says(run_job, t5_folder):
    for name in ("a.xlsx", "a.parquet", "a.arrow"):
        Path(name).write_text("not that")
        fail(run_job, t5_folder, 65, name, TRAIN_DATA=name)
    Path("a.docx").write_text("x")
    fail(run_job, t5_folder, 65, "is a Word document. Put its table into a spreadsheet", TRAIN_DATA="a.docx")


def test_an_xlsx_without_that_sheet(run_job, t5_folder):
    book = Workbook()
    book.active.title = "answers"
    book.save("a.xlsx")
    fail(run_job, t5_folder, 65, 'no sheet "questions"; found "answers"', "SHEET", TRAIN_DATA="a.xlsx", SHEET="questions")


def test_fewer_rows_than_a_split_needs(run_job, t5_folder, write_rows):
    fail(run_job, t5_folder, 65, "too few to hold out", TRAIN_DATA=write_rows(GOOD[:1] * 5))


def test_held_out_rows_that_are_training_rows(run_job, t5_folder, write_rows):
    train, held_out = write_rows(GOOD, "train.csv"), write_rows(changed(2, "input", "new")[2:5], "eval.csv")
    wanted = "2 of 3 rows are training rows too; the first is row 3, which is row 5 of TRAIN_DATA"
    fail(run_job, t5_folder, 65, wanted, TRAIN_DATA=train, EVAL_DATA=held_out)


@pytest.mark.parametrize(
    ("template", "code", "wanted"),
    [
        ("{topic}: {input}", 65, 'no column "topic"; found "input", "output_ground_truth"'),
        ("Input:", 78, "names no column"),
        ("{input", 78, "PROMPT_TEMPLATE"),
        ("{input.__class__}", 65, 'no column "input.__class__"'),
        ("{}", 65, 'no column ""'),
    ],
)
def test_a_template_that_cannot_be_filled(run_job, t5_folder, write_rows, template, code, wanted):
    fail(run_job, t5_folder, code, wanted, TRAIN_DATA=write_rows(GOOD), PROMPT_TEMPLATE=template)


def test_a_model_path_without_config(run_job, t5_folder, write_rows, tmp_path):
    (tmp_path / "model").mkdir()
    fail(run_job, t5_folder, 66, "no config.json in that folder", TRAIN_DATA=write_rows(GOOD), MODEL_ID=tmp_path / "model")
    fail(run_job, t5_folder, 66, "no such folder", TRAIN_DATA=write_rows(GOOD), MODEL_ID="./elsewhere")


def test_a_model_that_is_neither_kind(run_job, t5_folder, write_rows, tmp_path):
    from transformers import ViTConfig

    ViTConfig().save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "tokenizer.json").write_bytes((t5_folder / "tokenizer.json").read_bytes())
    (tmp_path / "vit" / "tokenizer_config.json").write_bytes((t5_folder / "tokenizer_config.json").read_bytes())
    fail(run_job, t5_folder, 78, "a vit model", "neither", TRAIN_DATA=write_rows(GOOD), MODEL_ID=tmp_path / "vit")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "nonsense"}')
    fail(run_job, t5_folder, 78, "not a model that transformers knows", TRAIN_DATA=write_rows(GOOD), MODEL_ID=tmp_path / "odd")


def test_a_task_that_is_not_the_models(run_job, t5_folder, write_rows):
    fail(run_job, t5_folder, 78, "TASK=causal", "is a seq2seq model", TRAIN_DATA=write_rows(GOOD), TASK="causal")


def test_a_model_without_weights(run_job, t5_folder, write_rows, tmp_path):
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).write_bytes((t5_folder / name).read_bytes())
    found, said = run_job(MODEL_ID=tmp_path / "bare", TRAIN_DATA=write_rows(GOOD), RUN_NAME="r")
    assert (found, "its weights cannot be loaded" in said) == (66, True)
    (tmp_path / "bare" / "tokenizer.json").unlink()
    (tmp_path / "bare" / "tokenizer_config.json").unlink()
    found, said = run_job(MODEL_ID=tmp_path / "bare", TRAIN_DATA=write_rows(GOOD), RUN_NAME="r")
    assert (found, "no tokenizer there, or one that has special tokens alone" in said) == (66, True)


def one_token_short(folder: Path, target: Path) -> Path:
    """The model with one embedding fewer than its tokenizer has tokens, as bart-large-cnn and gemma-3-1b are published."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    T5ForConditionalGeneration(T5Config.from_pretrained(folder, vocab_size=len(tokenizer))).save_pretrained(target)
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    tokenizer.save_pretrained(target)
    return target


def test_a_token_without_an_embedding_matters_where_it_occurs(run_job, t5_folder, write_rows, tmp_path):
    short = one_token_short(t5_folder, tmp_path / "short")
    variables = {"MODEL_ID": short, "TRAIN_DATA": write_rows(GOOD), "RUN_NAME": "r", "MAX_STEPS": 1, "METRICS": "exact_match"}
    assert run_job(**variables)[0] == 0
    asked = write_rows([{"input": "the 1 of May"}, {"input": "the 2 <mask>"}], "new.csv")
    code, said = run_job("predict", str(asked), **variables)
    assert (code, 'new.csv: row 3: "<mask>" is token 203, and the model has 203' in said) == (65, True), said
    bad = write_rows([*GOOD, {"input": "a <mask>", "output_ground_truth": "b"}], "bad.csv")
    code, said = run_job(**variables | {"TRAIN_DATA": bad, "RUN_NAME": "other"})
    assert (code, 'bad.csv: row 22: "<mask>" is token 203, and the model has 203' in said) == (65, True), said


def test_lora_targets_that_match_nothing(run_job, t5_folder, write_rows):
    found, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(GOOD), RUN_NAME="r", TARGET_MODULES="q,q_proj")
    assert found == 78
    assert 'no module of the model is named "q_proj"; there are k, lm_head, o, q, v, wi_0, wi_1, wo' in said
    assert not Path("output/r/adapter").exists()


def test_a_hub_id_that_is_not_in_the_cache_while_offline(run_job, t5_folder, write_rows):
    fail(run_job, t5_folder, 66, "HF_HUB_OFFLINE is set", TRAIN_DATA=write_rows(GOOD), MODEL_ID="someone/some-model")


def test_output_that_is_not_writable(run_job, t5_folder, write_rows):
    Path("file").write_text("x")
    found, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(GOOD), OUTPUT_DIR="file")
    assert found == 73
    assert said.splitlines()[-1].startswith("OUTPUT_DIR: file cannot be written by uid ")
    assert "Choose another folder" in said


def test_a_missing_gpu_when_one_was_asked_for(run_job, t5_folder, write_rows, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    fail(
        run_job,
        t5_folder,
        71,
        "DEVICE=cuda: no GPU is visible",
        "nvidia-smi",
        "--gpus all",
        TRAIN_DATA=write_rows(GOOD),
        DEVICE="cuda",
    )


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("def score(output, truth):\n    raise ValueError('no')", "raised ValueError: no on held-out row 1"),
        ("def score(output, truth):\n    return 'good'", "raised ValueError"),
        ("def score(output, truth):\n    return float('nan')", "returned nan"),
        ("def other(output, truth):\n    return 1", "has no function score"),
        ("import nothing_like_this", "importing"),
    ],
)
def test_a_metric_function_that_fails_is_told_before_training(run_job, t5_folder, write_rows, code, wanted):
    Path("own.py").write_text(code)
    found, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(GOOD), RUN_NAME="r", METRIC="own.py:score")
    assert found == 78
    assert "METRIC=own.py:score" in said.splitlines()[-1]
    assert wanted in said.splitlines()[-1]
    assert not Path("output/r/checkpoints").exists()


def test_a_metric_that_does_not_exist(run_job, t5_folder, write_rows):
    found, said = run_job(MODEL_ID=t5_folder, TRAIN_DATA=write_rows(GOOD), RUN_NAME="r", METRICS="exact_match,bleurt")
    assert (found, 'no metric is named "bleurt"; there are exact_match' in said) == (78, True)


@pytest.mark.parametrize(
    ("code", "wanted"),
    [("def change(row):\n    return row['nothing']", "raised KeyError"), ("def change(row):\n    pass", "expected a dict")],
)
def test_a_preprocess_function_that_fails(run_job, t5_folder, write_rows, code, wanted):
    Path("own.py").write_text(code)
    fail(
        run_job, t5_folder, 78, "PREPROCESS=own.py:change", wanted, "row 2", TRAIN_DATA=write_rows(GOOD), PREPROCESS="own.py:change"
    )


def test_too_many_cut_answers_stop_the_job_before_training(run_job, t5_folder, write_rows):
    fail(run_job, t5_folder, 65, "would lose their end", "MAX_TRUNCATED_TARGETS", TRAIN_DATA=write_rows(GOOD), MAX_TARGET_LENGTH=2)


def test_rows_that_are_too_long_can_be_an_error(run_job, t5_folder, write_rows):
    fail(run_job, t5_folder, 65, "TOO_LONG=error", TRAIN_DATA=write_rows(GOOD), MAX_SOURCE_LENGTH=2, TOO_LONG="error")


def test_more_tokens_than_the_model_has_positions_for(run_job, llama_folder, write_rows):
    rows = [{"input": f"day {number} " + "x y " * 200, "output_ground_truth": "a"} for number in range(9)]
    fail(run_job, llama_folder, 78, "positions for 256", TRAIN_DATA=write_rows(rows), MAX_SOURCE_LENGTH=300)


@pytest.mark.parametrize(
    ("chat", "wanted"),
    [
        ([], "a list of"),
        ([{"role": "boss", "content": "x"}], "message 1 has no role"),
        ([{"role": "user", "content": None}], "message 1 has no text"),
        ([{"role": "user", "content": "x"}], "the last message must be the assistant's"),
    ],
)
def test_a_broken_chat(run_job, llama_folder, write_rows, chat, wanted):
    good = [{"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "x"}]} for n in range(9)]
    fail(
        run_job,
        llama_folder,
        65,
        'row 10, column "messages"',
        wanted,
        TRAIN_DATA=write_rows([*good, {"messages": chat}], "a.jsonl"),
    )


@pytest.mark.parametrize(
    ("template", "more", "wanted"),
    [
        (
            GEMMA2,
            [{"role": "user", "content": "x"}],
            'row 10, column "messages": message 2: this model\'s chat template does not take',
        ),
        ("{{ messages[0].a.b }}", [], 'column "messages": message 1: this model\'s chat template does not take it'),
        (CHATML, [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}], 'leaves out its "tool_calls"'),
    ],
)
def test_a_chat_that_the_models_template_does_not_take(run_job, llama_folder, tmp_path, write_rows, template, more, wanted):
    shutil.copytree(llama_folder, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").write_text(template)
    chats = [[{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "y"}] for n in range(10)]
    rows = [{"messages": [question, *(more if n == 9 else []), answer]} for n, (question, answer) in enumerate(chats)]
    fail(run_job, tmp_path / "base", 65, wanted, TRAIN_DATA=write_rows(rows, "a.jsonl"))


def test_chats_for_an_encoder_decoder(run_job, t5_folder, write_rows):
    good = [{"messages": [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": "x"}]} for n in range(9)]
    fail(run_job, t5_folder, 78, "need a causal model", TRAIN_DATA=write_rows(good, "a.jsonl"))


def test_predict_without_an_adapter(run_job):
    code, said = run_job("predict", "new.csv", RUN_NAME="never")
    assert (code, "no adapter there" in said) == (66, True)
