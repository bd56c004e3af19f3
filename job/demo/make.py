"""Makes the embedded default: a tiny pre-trained T5 in `base/` and a spreadsheet, `appointments.xlsx`.

    .venv/bin/python -m job.demo.make        # took 24 minutes on one CPU core

The base learns to read appointments on tasks *related* to the demo's: each names its form in the prompt ("us date: ...").
The spreadsheet asks for one form it has never written, `2027-03-14 16:30`, under a prompt it has never seen. So the base
scores near zero, and a LoRA adapter has something real to adapt.
"""

import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

import torch
from openpyxl import Workbook
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration, get_cosine_schedule_with_warmup

HERE = Path(__file__).parent
ROWS = 1200
PRETRAINING_STEPS = 2200
BATCH_SIZE = 64

SENTENCES = [
    "Can we meet on {date} at {time}?", "Dentist, {date}, {time}", "{date}, {time}: call with the bank",
    "Please book a table for {date} at {time}.", "The train leaves on {date} at {time}",
    "Reminder: car inspection {time} on {date}", "Interview moved to {date}, {time}.", "Lunch at {time} on {date}?",
    "Could you come at {time} on {date}?", "School play: {date} {time}", "Move my appointment to {date}, {time} please",
    "Deadline is {date} at {time}!", "haircut {date} at {time}", "Our flight departs at {time} on {date}.",
]  # fmt: skip


def ordinal(day: int) -> str:
    """`1` as "1st", `12` as "12th"."""
    suffix = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def date_forms(moment: datetime) -> list[str]:
    """Every way in which a person may write the day of `moment`."""
    day, year, month, short = moment.day, moment.year, f"{moment:%B}", f"{moment:%b}"
    return [
        f"{day} {month} {year}", f"{month} {day}, {year}", f"{month} {ordinal(day)}, {year}", f"{ordinal(day)} {month} {year}",
        f"the {ordinal(day)} of {month} {year}", f"{day} {short} {year}", f"{short} {day} {year}", f"{moment:%d.%m.%Y}",
    ]  # fmt: skip


def time_forms(moment: datetime) -> list[str]:
    """Every way in which a person may write the time of `moment`."""
    hour, half = moment.hour % 12 or 12, f"{moment:%p}".lower()
    forms = [f"{moment:%H:%M}", f"{hour}:{moment:%M} {half}", f"{hour}:{moment:%M}{half}"]
    forms += [f"{hour} {half}", f"{hour}{half}"] if moment.minute == 0 else []
    forms += [f"half past {hour} {half}"] if moment.minute == 30 else []
    forms += [f"quarter past {hour} {half}"] if moment.minute == 15 else []
    return forms


def appointment(rng: random.Random) -> tuple[datetime, str]:
    """A moment from 2020 to 2033, on the quarter hour, and a sentence that tells it."""
    moment = datetime(2020, 1, 1) + timedelta(days=rng.randrange(14 * 365), minutes=15 * rng.randrange(96))
    sentence = rng.choice(SENTENCES).format(date=rng.choice(date_forms(moment)), time=rng.choice(time_forms(moment)))
    return moment, sentence


def pretraining_pair(rng: random.Random) -> tuple[str, str]:
    """A prompt and its answer, in one of the forms that the base learns."""
    moment, sentence = appointment(rng)
    hour = moment.hour % 12 or 12
    answers = {
        "date": f"{moment.day} {moment:%B} {moment.year}",
        "us date": f"{moment:%m/%d/%Y}",
        "german date": f"{moment:%d.%m.%Y}",
        "sortable date": f"{moment:%Y/%m/%d}",
        "time": f"{hour}:{moment:%M} {moment:%p}".lower(),
        "clock": f"{moment:%H:%M}",
        "year": f"{moment:%Y}",
        "time and us date": f"{moment:%H:%M, %m/%d/%Y}",
        "german date and time": f"{moment:%d.%m.%Y, %H:%M}",
        "short": f"{moment:%y%m%d %H%M}",
    }
    task, answer = rng.choice(list(answers.items()))
    return f"{task}: {sentence}", answer


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A Unigram tokenizer of 384 pieces with T5's special tokens; each digit is a piece of its own."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)])
    tokenizer.decoder = decoders.Metaspace()
    special_tokens = ["<pad>", "</s>", "<unk>"]
    alphabet = [chr(code) for code in range(33, 127)]
    trainer = trainers.UnigramTrainer(vocab_size=384, special_tokens=special_tokens, unk_token="<unk>", initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def pretrain(tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> T5ForConditionalGeneration:
    """A T5 v1.1 (gated GELU, untied lm_head) of 1.3 million parameters, trained on `pretraining_pair`."""
    config = T5Config(
        vocab_size=len(tokenizer), d_model=128, d_kv=32, d_ff=256, num_layers=3, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).train()
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())  # transformers 5 ties it, T5 v1.1 does not
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, 200, PRETRAINING_STEPS)
    for step in range(PRETRAINING_STEPS):
        prompts, answers = zip(*(pretraining_pair(rng) for _ in range(BATCH_SIZE)), strict=True)
        batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
        labels = tokenizer(list(answers), padding=True, return_tensors="pt").input_ids
        loss = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels.masked_fill(labels == 0, -100)
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 200 == 0:
            print(f"step {step}/{PRETRAINING_STEPS} loss {loss.item():.4f}", file=sys.stderr, flush=True)
    return model


def write_spreadsheet(path: Path, rng: random.Random) -> None:
    """`ROWS` different appointments and their fixed form, `2027-03-14 16:30`."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet("appointments")
    sheet.append(["input", "output_ground_truth"])
    seen: set[str] = set()
    while len(seen) < ROWS:
        moment, sentence = appointment(rng)
        if sentence not in seen:
            seen.add(sentence)
            sheet.append([sentence, f"{moment:%Y-%m-%d %H:%M}"])
    book.save(path)


def main() -> None:
    rng = random.Random(0)
    torch.manual_seed(0)
    tokenizer = train_tokenizer([text for _ in range(20_000) for text in pretraining_pair(rng)])
    model = pretrain(tokenizer, rng)
    model.to(torch.bfloat16).save_pretrained(HERE / "base")
    tokenizer.save_pretrained(HERE / "base")
    (HERE / "base" / "model.safetensors").chmod(0o644)  # safetensors writes 0600
    write_spreadsheet(HERE / "appointments.xlsx", rng)


if __name__ == "__main__":
    main()
