"""What templates of real families leave out of chats."""

import pytest

from job.data.chat_content import check_answer, check_chat, left_out, warn_of_changes
from job.data.chat_template import Chat
from job.errors import DataError
from tests.data import chat_templates as families
from tests.data.chat_templates import make_tokenizer
from tests.data.test_chat import CALLED, RESULT, TOOLS, answer, user

WEATHER = Chat([user("weather?"), CALLED, RESULT, answer("it is 20")], TOOLS, "row 3")


def test_a_template_without_tool_calls_is_refused_for_a_chat_with_them():
    with pytest.raises(DataError, match=r'^row 3: message 2: this model\'s chat template leaves out its "tool_calls"\. Choose'):
        check_chat(WEATHER, make_tokenizer(families.CHATML))
    check_chat(WEATHER, make_tokenizer(families.QWEN2_5))


@pytest.mark.parametrize("family", ["LLAMA3_1", "MISTRAL"])
def test_a_text_beside_a_call_that_the_template_leaves_out_is_refused(family):
    chat = Chat([user("weather?"), CALLED | {"content": "let me see"}], TOOLS)
    with pytest.raises(DataError, match=r'message 2: .* leaves out its "content"'):
        check_chat(chat, make_tokenizer(getattr(families, family)))
    check_chat(chat, make_tokenizer(families.QWEN2_5))


def test_a_role_that_the_template_leaves_out_is_refused():
    with pytest.raises(DataError, match=r'message 3: .* leaves out its "content"'):
        check_chat(WEATHER, make_tokenizer(families.DEEPSEEK_R1))


def test_thoughts_that_the_template_cuts_off_an_answer_are_refused():
    chat = Chat([user("a?"), answer("<think>\nwell, so\n</think>\n\nyes")], where="row 3")
    with pytest.raises(DataError, match=r'^row 3: message 2: .* leaves out "well, so" of the answer'):
        check_answer(chat, 1, "yes</s>")
    check_answer(chat, 1, "<think>\n\nwell, so\n\n</think>\nyes<|im_end|>")


def test_what_has_no_trace_in_the_rendered_chat_is_left_out():
    chat = Chat(
        [user("a?") | {"name": "Ada"}, answer("no", reasoning_content="hm"), user("b?"), answer("yes", reasoning_content="oh")],
        TOOLS,
    )
    both = {(1, "reasoning_content"), (3, "reasoning_content")}
    assert left_out(chat, make_tokenizer(families.CHATML)) == both | {(0, "name"), (-1, "tools")}
    assert left_out(chat, make_tokenizer(families.QWEN3)) == {(0, "name"), (1, "reasoning_content")}


def test_what_else_is_left_out_or_changed_is_told_in_a_line_each_with_its_first_place(caplog):
    system, developer = ({"role": role, "content": "be brief"} for role in ("system", "developer"))
    chats = [
        Chat([system, user("a") | {"name": "Ada"}, answer("b", reasoning_content="hm", train=False)], TOOLS, f"row {n}")
        for n in (4, 5)
    ]
    warn_of_changes([*chats, Chat([developer, user("a"), answer("b")], where="row 6")], make_tokenizer(families.GEMMA2))
    told = "(first there): this model's chat template"
    assert [record.getMessage() for record in caplog.records] == [
        f"row 4: message 1 {told} has no system role: the text is put before that of the user's next message",
        f'row 4: message 2 {told} leaves out "name"',
        f'row 4: message 3 {told} leaves out "reasoning_content"',
        f'row 4: message 3 {told} leaves out "train"',
        f'row 4 {told} leaves out "tools"',
        f"row 6: message 1 {told} has no role developer: it is called system",
    ]


def test_tools_are_told_of_only_where_the_template_reads_them_nowhere(caplog):
    system = {"role": "system", "content": "be brief", "tools": "[weather]"}  # where Phi-4's template reads them
    chat = Chat([system, user("a"), answer("b")], TOOLS)
    warn_of_changes([chat], make_tokenizer(families.QWEN2_5))
    warn_of_changes([chat], make_tokenizer(families.CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.tools }}")))
    assert not caplog.records
    warn_of_changes([chat], make_tokenizer(families.CHATML))
    assert 'leaves out "tools"' in caplog.text


def test_nothing_is_told_of_what_a_template_shows(caplog):
    tokenizer = make_tokenizer(families.QWEN3)
    warn_of_changes(
        [WEATHER, Chat([user("a?"), answer("no", reasoning_content="hm"), user("b?"), answer("yes", weight=0)])], tokenizer
    )
    assert not caplog.records
