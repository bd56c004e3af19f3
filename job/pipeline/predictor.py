"""What answers prompts with a run's adapter, or with its base alone, on this machine."""

import hashlib
import json
from dataclasses import dataclass

from peft import PeftModel

from job.config.libraries import weight_format
from job.config.settings import Settings
from job.evaluation.generate import Decoding, Ids, confidences, decode, generate_ids
from job.model.answering import read_answering_config
from job.model.load import load_base
from job.model.lora import load_adapter
from job.pipeline.plan import choose_eval_batch_size
from job.pipeline.records import AdapterRecord
from job.pipeline.trained_adapter import TrainedAdapter
from job.publish.adapter import WEIGHTS
from job.system.hardware import Hardware, check_quantization, choose_precision, detect
from job.system.seal import sha256

OUTPUT_COLUMN, CONFIDENCE_COLUMN = "output", "confidence"


@dataclass(frozen=True)
class Predictor:
    """What answers prompts: the model is loaded once it is needed."""

    adapter: TrainedAdapter
    hardware: Hardware
    weights: tuple[str, str]
    """Precision and quantisation of the base."""
    decoding: Decoding
    confidence: bool

    @classmethod
    def of(cls, settings: Settings, adapter: TrainedAdapter, longest: int) -> "Predictor":
        """The one for this machine. longest: tokens of the longest prompt."""
        record, hardware = adapter.record, detect(settings.device)
        weights = _weights(settings, record, hardware)
        batch_size = choose_eval_batch_size(settings, hardware, adapter.config, weights, (longest, record.max_new_tokens))
        decoding = Decoding(batch_size, record.max_new_tokens, record.num_beams, kept=record.kept_special_tokens)
        return cls(adapter, hardware, weights, decoding, settings.predict_confidence)

    def load(self) -> PeftModel:
        """The base model with the adapter."""
        adapter = self.adapter
        base = load_base(adapter.base, adapter.record.seq2seq, *weight_format(*self.weights), self.hardware.device)
        base.generation_config = read_answering_config(adapter.folder.adapter) or base.generation_config
        return load_adapter(base, adapter.folder.adapter)

    def fingerprint(self, prompts: list[Ids]) -> str:
        """sha256 of all that the answers to `prompts` depend on."""
        weights, base = sha256(self.adapter.folder.adapter / WEIGHTS), self.adapter.base
        decoding = (self.decoding.max_new_tokens, self.decoding.num_beams, self.confidence)
        depends_on = (prompts, weights, base.model_id, base.revision, self.weights, decoding)
        return hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()

    def answer(self, model: PeftModel, prompts: list[Ids]) -> dict[str, list]:
        """Further columns of a table for these prompts."""
        ids = generate_ids(model, self.adapter.tokenizer, prompts, self.decoding)
        columns: dict[str, list] = {OUTPUT_COLUMN: decode(ids, self.adapter.tokenizer, self.decoding.kept)}
        if self.confidence:
            columns[CONFIDENCE_COLUMN] = confidences(model, self.adapter.tokenizer, prompts, ids, self.decoding)
        return columns


def added_columns(confidence: bool) -> tuple[str, ...]:
    """What a table gets: the answer, and if wanted how sure the model is of it."""
    return (OUTPUT_COLUMN, CONFIDENCE_COLUMN)[: 1 + confidence]


def _weights(settings: Settings, record: AdapterRecord, hardware: Hardware) -> tuple[str, str]:
    """(precision, quantisation) of the base: on a CPU as it was trained, on a GPU its best, if nothing else is asked for.

    Raises SettingsError for what this machine cannot compute with.
    """
    quantization = record.quantization if settings.quantization == "auto" else settings.quantization
    check_quantization(quantization, hardware)
    if settings.precision == "auto" and hardware.device == "cpu":
        return record.precision_on("cpu"), quantization
    return choose_precision(settings.precision, hardware), quantization
