"""The model card is what the hub reads and what a person needs."""

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from transformers import AutoTokenizer

from job.evaluation.verdict import MetricComparison
from job.publish.card import write_card

FACTS = {
    "title": "run-1",
    "base": "google/flan-t5-base",
    "data": "a: b.xlsx",
    "train_rows": 80,
    "verdict": "better on 20 rows: exact match 1.0 % -> 90.0 %",
    "seq2seq": True,
    "template": 'Say "{input}":\n',
    "keeps_special_tokens": False,
    "begins_with_language": False,
    "tokenizer": "",
    "licence": "apache-2.0",
    "proof": "8 of 8 answers the same, losses within 1.0e-06",
    "versions": {"lora-job": "0.2.0", "torch": "2.10.0"},
}


SCORES = [
    MetricComparison("exact_match", 0.01, 0.9, 0.05, 0.89, 0.8, 0.95),
    MetricComparison("loss", 2.0, 0.5, None, -1.5, -1.7, -1.3),
]


def test_the_card_holds_what_the_hub_reads_and_what_a_person_needs(tmp_path):
    write_card(tmp_path / "README.md", FACTS, SCORES, {"LORA_R": "8"})
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.base_model == "google/flan-t5-base"
    assert card.data.library_name == "peft"
    assert {result.metric_type: result.metric_value for result in card.data.eval_results} == {"exact_match": 0.9, "loss": 0.5}
    index = yaml.safe_load(card.content.split("---")[1])
    assert index["license"] == "other"
    assert model_index_to_eval_results(index["model-index"])[0] == FACTS["title"]
    text = (tmp_path / "README.md").read_text()
    assert "AutoPeftModelForSeq2SeqLM" in text
    assert "Loaded again by a fresh process with peft and transformers alone: 8 of 8 answers the same" in text
    assert "exact match 1.0 % -> 90.0 %" in text
    assert "| exact_match | 0.0100 | 0.9000 | 0.0500 | +0.8900 | +0.8000 to +0.9500 |" in text
    assert "| loss | 2.0000 | 0.5000 |  | -1.5000 | -1.7000 to -1.3000 |" in text
    assert "- `LORA_R`: 8" in text
    assert "The base model's limits and\nlicence (apache-2.0) hold for the adapter too." in text
    assert "- `lora-job`: 0.2.0\n- `torch`: 2.10.0" in text


def test_what_was_added_to_the_tokenizer_is_told_and_nothing_where_nothing_was(tmp_path):
    for said, expected in (('Added: "{".', '\n\nAdded: "{".\n\n## Limits'), ("", "`\n\n## Limits")):
        write_card(tmp_path / "README.md", FACTS | {"tokenizer": said}, SCORES, {})
        assert expected in (tmp_path / "README.md").read_text()


def test_the_code_in_the_card_is_python(tmp_path):
    write_card(tmp_path / "README.md", FACTS | {"seq2seq": False, "proof": None}, [], {})
    code = (tmp_path / "README.md").read_text().split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert f"tokenizer({FACTS['template'] + chr(10)!r}, return_tensors" in code


def test_the_card_of_an_adapter_for_chats_asks_with_what_all_chats_began_with(tmp_path, llama_folder):
    chat, tools = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "..."}], [{"name": "weather"}]
    write_card(tmp_path / "README.md", FACTS | {"seq2seq": False, "chat": chat, "tools": tools}, [], {})
    text = (tmp_path / "README.md").read_text()
    code = next(line for line in text.splitlines() if line.startswith("inputs = "))
    found: dict = {"tokenizer": AutoTokenizer.from_pretrained(llama_folder)}
    exec(code, found)
    asked = found["tokenizer"].apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert found["inputs"]["input_ids"].tolist() == [asked]
    assert "tools=[{'name': 'weather'}]" in code
    assert "Prompt template: the chat template of the base model" in text


@pytest.mark.parametrize("base", ["job/demo/base", "/models/mine", "./mine"])
def test_a_folder_is_no_base_model_of_the_hub(base, tmp_path):
    write_card(tmp_path / "README.md", FACTS | {"base": base}, SCORES, {})
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None
    assert "huggingface.co" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(("seq2seq", "task"), [(True, "text2text-generation"), (False, "text-generation")])
def test_the_hub_is_told_the_task(tmp_path, seq2seq, task):
    write_card(tmp_path / "README.md", FACTS | {"seq2seq": seq2seq}, SCORES, {})
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == task
    assert {result.task_type for result in card.data.eval_results} == {task}


def test_without_settings_of_ones_own_it_says_so(tmp_path):
    write_card(tmp_path / "README.md", FACTS, SCORES, {})
    assert "## Settings\n\nAll defaults.\n" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("text", ["a: b", "- x", "#1", "'quoted\"", "{braces}", "ünï", "yes"])
def test_names_of_any_letters_survive_the_metadata(tmp_path, text):
    write_card(tmp_path / "README.md", FACTS | {"title": text, "data": text}, SCORES, {"INPUT_COLUMN": text})
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.model_name == text
    assert {result.dataset_name for result in card.data.eval_results} == {text}
    assert f"- `INPUT_COLUMN`: {text}" in card.text


def test_a_hub_id_is_linked(tmp_path):
    write_card(tmp_path / "README.md", FACTS, SCORES, {})
    assert "[google/flan-t5-base](https://huggingface.co/google/flan-t5-base)" in (tmp_path / "README.md").read_text()


def test_names_that_command_a_terminal_or_begin_a_line_are_written_out(tmp_path):
    hostile = "x\x1b[31m\n# A heading"
    facts = FACTS | {"base": f"./{hostile}", "template": hostile}
    write_card(tmp_path / "README.md", facts, SCORES, {"TRAIN_DATA": hostile})
    text = (tmp_path / "README.md").read_text()
    assert "\x1b" not in text
    assert "\n# A heading" not in text
    assert text.count("x\\x1b[31m\\n# A heading") == 4  # base, template, the code that uses it, the setting
