"""The best epoch of a small training is kept, patience ends it, and a loss that is not finite is an error."""

from collections.abc import Iterator

import pytest
import torch

from config.cli import UserError
from heads import small
from heads.stopping import check_finite


def fitted(*validation_losses: float) -> tuple[torch.nn.Module, small.Fitted]:
    """A training whose weight is the epoch's number."""
    model, values = torch.nn.Linear(1, 1, bias=False), iter(validation_losses)

    def losses(epoch: int) -> Iterator[torch.Tensor]:
        assert model.training
        torch.nn.init.constant_(model.weight, epoch)
        yield 0 * model.weight.sum()

    def validation_loss() -> float:
        assert not model.training and not torch.is_grad_enabled()
        return next(values)

    descent = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, small.fit(
        model, descent, losses, validation_loss, len(validation_losses), 2, "study.fusion: gated", "x.learning_rate"
    )


def test_the_best_epoch_is_kept_and_patience_ends_the_training() -> None:
    model, outcome = fitted(3.0, 1.0, 2.0, 0.5, 0.5, 0.7, 0.1)
    assert outcome == small.Fitted(steps=6, epoch=4, epochs=6, validation_loss=0.5)
    assert next(model.parameters()).item() == 4 and not model.training


def test_the_last_epoch_ends_the_training() -> None:
    assert fitted(3.0, 1.0, 0.5)[1] == small.Fitted(steps=3, epoch=3, epochs=3, validation_loss=0.5)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error(loss: float) -> None:
    with pytest.raises(UserError, match=r"study.fusion: gated in epoch 1 diverged .* lower x\.learning_rate"):
        fitted(loss)


def test_a_learning_rate_for_each_step() -> None:
    model = torch.nn.Linear(1, 1)
    descent, rates = torch.optim.SGD(model.parameters(), lr=0.1), []

    def losses(epoch: int) -> Iterator[torch.Tensor]:
        for _ in range(2):
            yield 0 * model.weight.sum()
            rates.append(descent.param_groups[0]["lr"])

    assert list(small.epochs(model, descent, losses, 2, lambda step: step / 10)) == [2, 4]
    assert rates == [0, 0.1, 0.2, 0.3]


def test_every_loss_is_looked_at() -> None:
    check_finite("x", "lower y", a=0.0, b=-1.0)
    with pytest.raises(UserError, match=r"x diverged \(a 0, b -inf\): lower y, or a feature is not finite"):
        check_finite("x", "lower y", a=0.0, b=-float("inf"))
