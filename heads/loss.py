"""The contrastive losses, their value for a guess and the lowest value they can take. Reads and writes nothing.

All take unit vectors `audio` and `video` [n, d]: row i of the one belongs to row i of the other, and the other n - 1
rows of the batch are its strangers. All are the mean of both directions, per pair, as a scalar; where the directions
are added instead, as in the paper's published code, losses are twice these. A pair alone has no strangers: loss 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.heads import LOWEST_LEARNED, Experiment, Loss, Output
from heads.kernels import logsumexps


def info_nce(audio: Tensor, video: Tensor, scale: Tensor | float) -> Tensor:
    """Standard bidirectional InfoNCE on cosines times `scale` (1 / temperature).

    Per direction -log of the true partner's share among all candidates: equation 4 of van den Oord et al. 2018 (arXiv
    1807.03748); the symmetric mean is CLIP's (Radford et al. 2021, arXiv 2103.00020). What the published code computes.
    """
    logits = audio * scale @ video.T
    return _against(logits, logits.diagonal())


def paper_loss(audio: Tensor, video: Tensor, scale: Tensor | float) -> Tensor:
    """The paper's equation: as `info_nce`, but the denominator sums over the strangers only.

    Known as decoupled contrastive learning (Yeh et al. 2022, arXiv 2110.06848). It has no limit at 0.
    """
    logits = audio * scale @ video.T
    if len(logits) < 2:
        return logits.sum() * 0
    strangers = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool, device=logits.device), -math.inf)
    return _against(strangers, logits.diagonal())


def _against(candidates: Tensor, partners: Tensor) -> Tensor:
    """Mean over both directions of log Σ exp(candidates) - partners; candidates [n, n], partners [n]."""
    # One matrix for both directions: its rows are sound's candidates, its columns picture's.
    rows, columns = logsumexps(candidates)
    return (rows.mean() + columns.mean()) / 2 - partners.mean()


def siglip_loss(audio: Tensor, video: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """SigLIP's pairwise sigmoid loss (Zhai et al. 2023, arXiv 2303.15343, equation 1 and algorithm 1).

    Each of the n² pairs is asked alone whether it belongs together; the sum of -log σ(±(cosine · scale + bias)) is
    divided by n.
    """
    logits = audio * scale @ video.T + bias
    if len(logits) < 2:
        return logits.sum() * 0
    # -log σ(x) = softplus(-x) = softplus(x) - x: every pair as a stranger, then the partners set right.
    return (functional.softplus(logits).sum() - logits.diagonal().sum()) / len(logits)


def largest_gap(pairs: int, outputs: tuple[Output, Output]) -> float:
    """The largest possible mean difference between partners' and strangers' cosines over n = `pairs`, dimensions aside.

    With V = Σ v_j it is, for the best a_i, n/(n-1) · mean ‖v_i - V/n‖ ≤ n/(n-1) · √(1 - ‖V/n‖²).
    - Both sides free: V = 0, so n/(n-1), the simplex (Lu & Steinerberger 2022, arXiv 2012.08465).
    - One side without negative coordinates (sigmoid): ‖V‖² ≥ Σ ‖v_i‖² = n, so √(n/(n-1)).
    - Both: no cosine is below 0 and none above 1, so 1; orthogonal pairs have it.
    A sigmoid comes as close as one likes. Reached in n dimensions or more (n - 1 for the simplex). A side without a
    head counts as free, though its features are given: the bound holds but may be far.
    """
    sigmoids = outputs.count("sigmoid")
    return (pairs / (pairs - 1)) ** (1 - sigmoids / 2)


def floor(loss: Loss, pairs: int, gap: float, scale: float) -> float:
    """The lowest loss over `pairs` pairs when partners' cosines are on average by `gap` above strangers'.

    Every loss is a convex function of the cosines, which does not care how pairs are numbered; so by Jensen's
    inequality it is at least its value where all partners have one cosine and all strangers another. That depends on
    the gap alone: ln(1 + (n-1)·exp(-gap·scale)) for `info_nce`, ln(n-1) - gap·scale for `paper`. For `siglip` it is
    softplus(-gap·scale - x) + (n-1)·softplus(x), where the bias makes x whatever is best; setting the derivative to 0
    and u = exp(x) gives (n-1)·exp(gap·scale)·u² + (n-2)·u - 1 = 0.
    """
    n = pairs
    if n < 2:
        return 0.0
    if loss == "info_nce":
        return math.log1p((n - 1) * math.exp(-gap * scale))
    if loss == "paper":
        return math.log(n - 1) - gap * scale
    above = math.exp(min(gap * scale, 700.0))  # the largest that a float holds; the loss is 0 by then
    u = 2 / ((n - 2) + math.sqrt((n - 2) ** 2 + 4 * (n - 1) * above))
    return math.log1p(1 / (above * u)) + (n - 1) * math.log1p(u)


def chance_loss(pairs: int, loss: Loss = "info_nce") -> float:
    """The lowest loss over a batch of `pairs` for whom every candidate looks equally likely: the floor without a gap.

    ln(n) for `info_nce`, ln(n-1) for `paper`, n times the entropy of a yes with probability 1/n for `siglip`.
    """
    return floor(loss, pairs, 0.0, 1.0)


def lowest_loss(pairs: int, temperature: float, outputs: tuple[Output, Output], loss: Loss = "info_nce") -> float:
    """No embeddings can bring the loss over a batch of `pairs` below this value at this temperature."""
    return floor(loss, pairs, largest_gap(pairs, outputs) if pairs > 1 else 0.0, 1 / temperature)


FUNCTIONS: dict[Loss, Callable[..., Tensor]] = {"info_nce": info_nce, "paper": paper_loss, "siglip": siglip_loss}


class ContrastiveLoss(nn.Module):
    """An experiment's loss: (audio, video) → scalar. Its parameters are what it learns: `log_scale`, `bias` or none.

    A learned temperature is the exponential of -`log_scale`, as in CLIP, and stays at or above 0.01.
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.loss: Loss = experiment.loss
        self.outputs = experiment.outputs
        self.fixed = experiment.temperature
        self.log_scale: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if experiment.learned_temperature:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(experiment.temperature)))
        if self.loss == "siglip":
            self.bias = nn.Parameter(torch.tensor(experiment.bias))

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        scale: Tensor | float = 1 / self.fixed
        if self.log_scale is not None:
            with torch.no_grad():  # the step before may have gone too far; clamping the value keeps its gradient
                self.log_scale.clamp_(max=-math.log(LOWEST_LEARNED))
            scale = self.log_scale.exp()
        learned = () if self.bias is None else (self.bias,)
        return FUNCTIONS[self.loss](audio, video, scale, *learned)

    def temperature(self) -> float:
        """The temperature as it is now."""
        if self.log_scale is None:
            return self.fixed
        return max(self.log_scale.neg().exp().item(), LOWEST_LEARNED)

    def chance(self, pairs: int) -> float:
        """`chance_loss` of this loss."""
        return chance_loss(pairs, self.loss)

    def lowest(self, pairs: int) -> float:
        """`lowest_loss` of this loss at the present temperature, for the heads of this experiment."""
        return lowest_loss(pairs, self.temperature(), self.outputs, self.loss)


def loss_of(experiment: Experiment) -> ContrastiveLoss:
    """The loss that the experiment asks for."""
    return ContrastiveLoss(experiment)
