"""The loss against numpy."""

import numpy as np
import torch

from job.model.loss import row_losses, summed_cross_entropy


def numpy_losses(logits: np.ndarray, labels: np.ndarray) -> list[list[float]]:
    """Cross-entropies of the labels that count, a list a row."""
    log_sum = np.log(np.exp(logits).sum(-1))
    return [
        [log_sum[row, place] - logits[row, place, label] for place, label in enumerate(labels[row]) if label != -100]
        for row in range(len(labels))
    ]


def test_the_sum_and_the_rows_means_are_numpys():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 5, 7, generator=generator), torch.randint(0, 7, (3, 5), generator=generator)
    labels[0, 3:], labels[2, 1:] = -100, -100
    expected = numpy_losses(logits.double().numpy(), labels.numpy())
    assert sum(map(len, expected)) == 9
    np.testing.assert_allclose(summed_cross_entropy(logits, labels, shift=False), sum(map(sum, expected)), rtol=1e-6)
    np.testing.assert_allclose(row_losses(logits, labels, shift=False), [np.mean(row) for row in expected], rtol=1e-6)


def test_a_causal_model_predicts_the_next_token():
    logits, labels = torch.randn(2, 4, 5), torch.tensor([[-100, 1, 2, 3], [-100, -100, 4, 0]])
    expected = numpy_losses(logits[:, :-1].double().numpy(), labels[:, 1:].numpy())
    np.testing.assert_allclose(summed_cross_entropy(logits, labels, shift=True), sum(map(sum, expected)), rtol=1e-5)
    np.testing.assert_allclose(row_losses(logits, labels, shift=True), [np.mean(row) for row in expected], rtol=1e-5)


def test_a_row_without_labels_has_loss_zero_not_nan():
    assert row_losses(torch.randn(1, 3, 4), torch.full((1, 3), -100), shift=False).tolist() == [0.0]
