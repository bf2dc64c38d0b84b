"""The best epoch of a small training is kept, waited for as long as is said, and a broken loss is said."""

import pytest
import torch

from config.cli import UserError
from heads.study.best import Best


def test_the_best_epoch_is_kept_and_patience_ends_the_training() -> None:
    model, ended = torch.nn.Linear(1, 1), []
    best = Best(model, 2, "study.fusion.learning_rate")
    for epoch, loss in enumerate([3.0, 1.0, 2.0, 0.5, 0.5, 0.7, 0.1], 1):
        torch.nn.init.constant_(model.weight, epoch)
        if best.ends(epoch, loss):
            ended.append(epoch)
            break
    assert ended == [6] and (best.epoch, best.loss) == (4, 0.5)
    best.restore()
    assert model.weight.item() == 4 and not model.training


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_said(loss: float) -> None:
    with pytest.raises(UserError, match=r"not finite in epoch 1; lower study\.fusion\.learning_rate"):
        Best(torch.nn.Linear(1, 1), 2, "study.fusion.learning_rate").ends(1, loss)
