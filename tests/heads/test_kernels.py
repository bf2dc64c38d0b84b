"""What training computes with on a CPU against PyTorch's own."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

from config.cli import UserError
from heads import kernels
from heads.kernels import OneDNN, logsumexps


def gradients(context: object, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Output and gradients of a small network with a product of matrices at its end."""
    torch.manual_seed(0)
    x, w, b, other = (torch.randn(shape, requires_grad=True) for shape in shapes)
    with context:  # type: ignore[attr-defined]
        out = functional.linear(x, w, b) @ other.T
        assert (type(out.grad_fn).__name__ == "OneDNNLinearBackward") == isinstance(context, OneDNN)
        (out.logsumexp(dim=0).sum() + out.sum()).backward()
    return [out, *(tensor.grad for tensor in (x, w, b, other) if tensor.grad is not None)]


@pytest.mark.parametrize("shapes", [((7, 5), (3, 5), (3,), (9, 3)), ((100, 257), (64, 257), (64,), (100, 64))])
def test_onednn_and_its_gradients_equal_torchs(shapes: tuple[tuple[int, ...], ...]) -> None:
    ours, theirs = (gradients(context, *shapes) for context in (OneDNN(), nullcontext()))
    assert len(ours) == 5
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_no_gradient_is_computed_for_inputs() -> None:
    x, layer = torch.randn(4, 3), torch.nn.Linear(3, 2)
    with OneDNN():
        layer(x).sum().backward()
    assert x.grad is None and layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, x.sum(dim=0).expand(2, 3))


def test_other_shapes_and_types_are_left_to_torch() -> None:
    with OneDNN():
        assert (torch.ones(2, 3, 4) @ torch.ones(4, 5)).shape == (2, 3, 5)
        assert functional.linear(torch.ones(2, 3).double(), torch.ones(4, 3).double()).dtype == torch.float64


@pytest.mark.parametrize("spread", [1.0, 20.0, 100.0])
def test_logsumexps_equal_torchs(spread: float) -> None:
    torch.manual_seed(0)
    logits = (torch.rand(60, 40) * spread).double().requires_grad_()
    weights = torch.rand(60), torch.rand(40)
    computed = logsumexps(logits.float())
    expected = logits.logsumexp(1), logits.logsumexp(0)
    slopes = [
        torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, pair, strict=True)), logits)[0]
        for pair in (computed, expected)
    ]
    for a, b in zip((*computed, slopes[0]), (*expected, slopes[1]), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_rows_far_below_the_largest_number_do_not_vanish() -> None:
    logits = torch.tensor([[0.0, -1.0], [-200.0, -201.0]], requires_grad=True)
    rows, columns = logsumexps(logits)
    torch.testing.assert_close(rows, logits.logsumexp(1))
    torch.testing.assert_close(columns, logits.logsumexp(0))
    rows[1].backward()
    assert (
        logits.grad is not None
        and torch.isfinite(logits.grad).all()
        and logits.grad[1].sum().item() == pytest.approx(1, rel=1e-4)
    )


def test_dropout_keeps_what_it_should() -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1000, requires_grad=True)
    with OneDNN():
        out = torch.nn.Dropout(0.3)(x)
        out.sum().backward()
        assert torch.nn.Dropout(0.3).eval()(x) is x and torch.nn.Dropout(0.0)(x) is x
        assert torch.nn.Dropout(0.3)(torch.ones(3)).shape == (3,)
    assert out.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.003)  # 6 standard deviations
    assert x.grad is not None and torch.equal(x.grad, out.detach())


def test_what_does_not_exist_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for matmul, device in (("tf32", "cpu"), ("onednn", "cuda")):
        with pytest.raises(UserError, match=f"heads.matmul: {matmul} does not exist on this machine's {device}"):
            kernels.kernels(matmul, device)  # type: ignore[arg-type]
    monkeypatch.setattr(kernels, "intel", lambda: True)
    assert not isinstance(kernels.kernels("auto", "cpu"), OneDNN)
    assert isinstance(kernels.kernels("onednn", "cpu"), OneDNN)
    monkeypatch.setattr(kernels, "intel", lambda: False)
    assert isinstance(kernels.kernels("auto", "cpu"), OneDNN)
    assert not isinstance(kernels.kernels("auto", "cuda"), OneDNN)
