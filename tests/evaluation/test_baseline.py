"""The baseline."""

from datasets import Dataset

from job.evaluation.baseline import baseline_outputs, most_frequent_answer


def test_the_baseline_answer_is_the_most_frequent_one_or_the_first_sentence(tokenizer):
    train = Dataset.from_dict({"ground_truth": ["no", "yes", "yes", "no", "yes"]})
    assert baseline_outputs(["a", "b"], ["yes", "no"], train, tokenizer) == ["yes", "yes"]
    long = ["one two three four five six seven"] * 2
    assert baseline_outputs(["First one. Second.", "No end"], long, train, tokenizer) == ["First one.", "No end"]
    summary = ["\u4e00" * 300] * 2  # Chinese has no spaces
    assert baseline_outputs(["\u4e8c\u3002 \u4e09"], summary, train, tokenizer) == ["\u4e8c\u3002"]
    prompts = [[-100] * length + tokenizer(text).input_ids for length, text in ((1, "no"), (2, "no"), (3, "yes"))]
    assert most_frequent_answer(Dataset.from_dict({"labels": prompts}), tokenizer) == "no"
    ids = [tokenizer(text).input_ids for text in ("yes", "no", "no")]
    assert most_frequent_answer(Dataset.from_dict({"labels": ids}), tokenizer) == "no"
