"""The chunked loss is the plain one, and a head that it does not fit is noticed."""

import pytest
import torch
from torch import nn
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from job.model import objective
from job.model.loss import row_losses, summed_cross_entropy
from job.model.objective import Objective, frozen_last_head
from job.model.packing import model_inputs, padding_collator
from tests.tiny_models import LENGTHS, adapted, load, rows


def gradient_of(model, loss) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten().float() for parameter in model.parameters() if parameter.grad is not None])


def losses_and_gradients(model, folder):
    """Of the objective, and of the library's logits: each (loss, gradient)."""
    causal = not model.config.is_encoder_decoder
    names = ("input_ids", "labels")
    batch = padding_collator(model, AutoTokenizer.from_pretrained(folder))(
        [{name: row[name] for name in names} for row in rows(causal)]
    )
    loss = Objective(model)(model, batch)
    found = loss.item(), gradient_of(model, loss)
    logits = model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits
    expected = summed_cross_entropy(logits, batch["labels"], causal)
    return found, (expected.item(), gradient_of(model, expected))


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
@pytest.mark.parametrize("tokens", [1, 5, 1000])
def test_the_loss_in_chunks_is_the_loss_of_all_logits(kind, tokens, request, monkeypatch):
    folder = request.getfixturevalue(kind)
    model = adapted(load(folder, torch.float64), torch.float64)
    monkeypatch.setattr(objective, "CHUNK_BYTES", 4 * model.config.vocab_size * tokens)
    (loss, gradient), (expected_loss, expected) = losses_and_gradients(model, folder)
    assert loss == pytest.approx(expected_loss, abs=1e-10)
    assert (gradient - expected).norm() < 1e-7 * expected.norm()  # compared in float32


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
@pytest.mark.parametrize("options", [{}, {"modules_to_save": ["lm_head"]}], ids=["frozen head", "trained head"])
def test_each_rows_mean_is_that_of_all_its_logits(kind, options, request):
    """A row without labels has none."""
    folder = request.getfixturevalue(kind)
    model = adapted(load(folder), **options)
    examples = [{name: row[name] for name in ("input_ids", "labels")} for row in rows("llama" in kind)]
    examples[1]["labels"] = [-100] * len(examples[1]["labels"])
    batch = padding_collator(model, AutoTokenizer.from_pretrained(folder))(examples)
    with torch.no_grad():
        found, logits = Objective(model).of_rows(model, batch), model(**model_inputs(batch)).logits
    assert found[1] == 0
    assert torch.allclose(found, row_losses(logits, batch["labels"], shift="llama" in kind), rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gradient_in_half_precision_is_no_worse_than_that_of_all_logits(t5_folder, dtype):
    _, (_, exact) = losses_and_gradients(adapted(load(t5_folder)), t5_folder)
    (_, chunked), (_, whole) = losses_and_gradients(adapted(load(t5_folder, dtype), dtype), t5_folder)
    assert (chunked - exact).norm() < 1.1 * (whole - exact).norm()


def test_all_logits_in_float32_are_never_there(t5_folder, monkeypatch):
    folder, widths = t5_folder, []
    monkeypatch.setattr(objective, "CHUNK_BYTES", 4 * 400 * 3)
    original = nn.functional.nll_loss
    monkeypatch.setattr(
        objective.F, "nll_loss", lambda logits, *rest, **kwargs: widths.append(len(logits)) or original(logits, *rest, **kwargs)
    )
    losses_and_gradients(adapted(load(folder)), folder)
    labels = sum(target for _, target in LENGTHS)
    assert sum(widths[: -(-labels // 3)]) == labels
    assert max(widths) <= 3


def test_an_evaluation_computes_no_gradient_and_the_same_loss(t5_folder, monkeypatch):
    hidden, labels = torch.randn(7, 32, requires_grad=True), torch.arange(7)
    head = load(t5_folder).lm_head.requires_grad_(False)
    expected = objective.chunked_cross_entropy(hidden, labels, head)
    monkeypatch.setattr(torch.Tensor, "exp_", None)
    with torch.no_grad():
        assert torch.equal(objective.chunked_cross_entropy(hidden.detach(), labels, head), expected)


@pytest.mark.parametrize("kind", ["t5_folder", "llama_folder"])
def test_a_frozen_head_that_comes_last_is_found(kind, request):
    model = adapted(load(request.getfixturevalue(kind)))
    assert frozen_last_head(model) is model.get_output_embeddings()
    assert "forward" not in vars(model.get_output_embeddings())


def test_a_model_that_casts_what_comes_out_of_its_head_has_its_loss_in_half_precision():
    """Mamba's head is told to put out float32."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "vocab_size": 400, "pad_token_id": 0}
    torch.manual_seed(0)
    model = adapted(MambaForCausalLM(MambaConfig(**sizes)).to(torch.bfloat16), torch.bfloat16, target_modules=["x_proj"])
    assert frozen_last_head(model) is model.get_output_embeddings()
    batch = {"input_ids": torch.arange(3, 19)[None], "labels": torch.arange(3, 19)[None], "labelled": torch.arange(1, 16)}
    expected = summed_cross_entropy(model(input_ids=batch["input_ids"]).logits, batch["labels"], shift=True).item()
    assert Objective(model)(model, batch).item() == pytest.approx(expected, rel=1e-3)


def test_a_head_that_is_trained_sees_all_logits(t5_folder):
    assert frozen_last_head(adapted(load(t5_folder), modules_to_save=["lm_head"])) is None


@pytest.mark.parametrize("alter", ["capped", "scaled", "shifted"])
def test_a_head_whose_output_is_altered_sees_all_logits(llama_folder, alter):
    model = adapted(load(llama_folder))
    change = {
        "capped": lambda logits: 30 * torch.tanh(logits / 30),
        "scaled": lambda logits: logits * 2,
        "shifted": lambda logits: logits + torch.zeros(logits.shape[-1]).fill_(0.5),
    }[alter]

    def after(_module, _args, output):
        output.logits = change(output.logits)
        return output

    model.get_base_model().register_forward_hook(after)
    assert frozen_last_head(model) is None


@pytest.mark.parametrize(
    "failure", [torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("CUDA error: unspecified")]
)
def test_a_card_that_fails_is_no_sign_that_the_head_is_not_the_last_step(t5_folder, failure):
    model = adapted(load(t5_folder))

    def fail(*_: object) -> None:
        raise failure

    model.get_encoder().register_forward_pre_hook(fail)
    with pytest.raises(type(failure)):
        frozen_last_head(model)
