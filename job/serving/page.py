"""What the page asks for: what run this is, its held-out rows, and one input answered by both sides."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datasets import Dataset

from job.data.prepared import load_prepared
from job.evaluation.evaluate import read_csv
from job.evaluation.generate import Ids, prompt_of
from job.evaluation.verdict import Verdict, describe, gains, name, number, read_verdict
from job.pipeline.evaluate import answered_rows
from job.pipeline.records import VerdictRecord
from job.publish.report import differences
from job.serving.asking import Asking
from job.serving.batches import Answer, Question
from job.serving.http import Refused, Reply, Request
from job.serving.tables import MOST_BYTES

FOLDER = Path(__file__).parent
FILES = {
    "/": (FOLDER / "page.html", "text/html"),
    "/page.js": (FOLDER / "page.js", "text/javascript"),
    "/page.css": (FOLDER / "page.css", "text/css"),
    "/style.css": (FOLDER.parent / "publish" / "style.css", "text/css"),
}
"""The page itself; it holds nothing of a run."""
ROWS_AT_ONCE, MOST_COMPARED = 20, 4000
"""Rows a request, and letters up to which words are compared: the comparison takes the square of them."""
ORDERS = ("worse", "better", "all")


def file(request: Request) -> Reply:
    """A file of the page."""
    path, kind = FILES[request.path]
    return Reply(path.read_bytes(), f"{kind}; charset=utf-8")


@dataclass(frozen=True)
class Page:
    """Answers the page of a run."""

    asking: Asking

    @cached_property
    def verdict(self) -> Verdict | None:
        """That of the run, if it was evaluated."""
        folder = self.asking.adapter.folder
        if folder.verdict.exists():
            return VerdictRecord.read(folder.verdict).verdict
        return read_verdict(folder.evaluation) if folder.evaluation.exists() else None

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The held-out rows of the evaluation, with both answers."""
        folder = self.asking.adapter.folder
        return read_csv(folder.evaluation) if folder.evaluation.exists() else []

    @cached_property
    def tokenised(self) -> Dataset | None:
        """The rows of the verdict as the evaluation read them, in the order of `rows`; None where they are not there any more."""
        folder = self.asking.adapter.folder
        prepared = load_prepared(folder.data)
        return answered_rows(folder, prepared) if prepared else None

    @cached_property
    def gains(self) -> list[float]:
        """By how much the adapter is better, a row each."""
        metric = self.verdict.headline.metric if self.verdict else ""
        return gains(self.rows, metric)

    def about(self, _request: Request) -> Reply:
        """GET /api/about"""
        adapter, gains, verdict = self.asking.adapter, self.gains, self.verdict
        return Reply.of(
            {
                "run": adapter.folder.name,
                "base": adapter.record.base_model,
                "word": verdict.word if verdict else None,
                "summary": f"on {verdict.rows} rows: {describe(verdict.headline)}" if verdict else "This run was not evaluated.",
                "warning": verdict.warning if verdict else None,
                "metric": name(verdict.headline.metric) if verdict else None,
                "fields": self.asking.fields,
                "limit": adapter.limit,
                "table_bytes": MOST_BYTES,
                "rows": {"all": len(gains), "worse": sum(gain < 0 for gain in gains), "better": sum(gain > 0 for gain in gains)},
            }
        )

    def held_out(self, request: Request) -> Reply:
        """GET /api/rows?order=worse&find=TEXT&from=0"""
        order, find, start = (request.query.get(key, "") for key in ("order", "find", "from"))
        if order not in ORDERS or not (start or "0").isdecimal():
            raise Refused(400, f"order is one of {', '.join(ORDERS)}, and from a number.")
        found = [place for place in self._ordered(order) if find.lower() in _searched(self.rows[place])]
        first = int(start or "0")
        return Reply.of({"found": len(found), "rows": [self._shown(place) for place in found[first : first + ROWS_AT_ONCE]]})

    def ask(self, request: Request) -> Reply:
        """POST /api/ask: {"row": {column: text}}, or {"held_out": number} for a row exactly as the evaluation read it."""
        body = request.json()
        started = time.monotonic()
        prompt, truth = self._asked(body)
        most = self.asking.adapter.record.max_new_tokens
        questions = [Question(prompt, most, of_base, confidence=True) for of_base in (True, False)]
        base, adapter = self.asking.answers(questions, request)
        sides = {"base": _side(base, adapter, truth), "adapter": _side(adapter, base, truth)}
        return Reply.of(sides | {"truth": truth, "seconds": round(time.monotonic() - started, 3)})

    def _asked(self, body: dict[str, Any]) -> tuple[Ids, str | None]:
        """The prompt, and the right answer where it is known."""
        place, row = body.get("held_out"), body.get("row")
        if place is not None:
            if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(self.rows):
                raise Refused(400, f"held_out: a number from 0 to {len(self.rows) - 1} was expected.")
            return self._held_out_prompt(place), self.rows[place]["ground_truth"]
        if not isinstance(row, dict) or not row or not all(isinstance(text, str) for text in row.values()):
            raise Refused(400, "row: an object of texts by column was expected.")
        return self.asking.read_rows([row])[0], None

    def _held_out_prompt(self, place: int) -> Ids:
        if self.tokenised is not None and place < len(self.tokenised):
            return prompt_of(self.tokenised[place], self.asking.adapter.record.seq2seq)
        return self.asking.read_rows([{self.asking.adapter.record.input_column: self.rows[place]["input"]}])[0]

    def _ordered(self, order: str) -> list[int]:
        places = range(len(self.rows))
        if order == "all":
            return list(places)
        sign = 1 if order == "worse" else -1
        return sorted((place for place in places if sign * self.gains[place] < 0), key=lambda place: sign * self.gains[place])

    def _shown(self, place: int) -> dict[str, Any]:
        row, metric = self.rows[place], self.verdict.headline.metric if self.verdict else ""
        base, adapter = (number(metric, float(row[f"{side}_{metric}"])) for side in ("base", "adapter"))
        return {
            "number": place,
            "input": row["input"],
            "truth": row["ground_truth"],
            "base": pieces(row["base_output"], row["ground_truth"]),
            "adapter": pieces(row["adapter_output"], row["ground_truth"]),
            "score": f"{base} -> {adapter}",
        }


def pieces(output: str, other: str) -> Sequence[tuple[str, str]]:
    """`output` in pieces that say what differs from `other`; in one where they are long."""
    return differences(output, other) if len(output) + len(other) <= MOST_COMPARED else [("same", output)]


def _searched(row: dict[str, str]) -> str:
    return "\n".join((row["input"], row["ground_truth"], row["base_output"], row["adapter_output"])).lower()


def _side(answer: Answer, other: Answer, truth: str | None) -> dict[str, Any]:
    """What the page shows of one side: marked against the right answer, or where none is known against the other side."""
    shown = pieces(answer.text, other.text if truth is None else truth)
    if truth is None:
        shown = [piece for piece in shown if piece[0] != "del"]
    sure = None if answer.confidence is None else math.exp(answer.confidence)
    return {"text": answer.text, "pieces": shown, "confidence": sure, "ended": answer.ended, "tokens": len(answer.ids)}
