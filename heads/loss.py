"""The contrastive losses, their value at chance and the lowest value they can take. Reads and writes nothing.

Each loss is a class of `LOSSES` that says all three itself: one that leaves something out cannot be instantiated.

All take unit vectors `audio` and `video` [n, d]: the rows i of both are each other's positives, the other n - 1 rows of
the batch negatives. With `normalise: false` vectors have any length, and dot products take the place of cosines. All
are the mean of both directions, per pair, as a scalar; where the directions are added instead, as in the paper's
published code, losses are twice these. A single pair has no negatives: loss 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.heads import LOWEST_LEARNED, Experiment, Loss, Output
from heads.kernels import logsumexps


def cross_entropy(candidates: Tensor, positives: Tensor) -> Tensor:
    """Return the mean over both directions of log Σ exp(candidates) - positives; [n, n] and [n] → scalar."""
    # One matrix for both directions: its rows are the candidates of audio queries, its columns those of video queries.
    rows, columns = logsumexps(candidates)
    return (rows.mean() + columns.mean()) / 2 - positives.mean()


def largest_gap(pairs: int, outputs: tuple[Output, Output]) -> float:
    """Return the largest possible mean of positives' minus that of negatives' cosines over n = `pairs` ≥ 2.

    With V = Σ v_j it is, for the best a_i, n/(n-1) · mean ‖v_i - V/n‖ ≤ n/(n-1) · √(1 - ‖V/n‖²).
    - Both modalities free: V = 0, so n/(n-1), the simplex (Lu & Steinerberger 2022, arXiv 2012.08465).
    - One modality without negative coordinates (sigmoid): ‖V‖² ≥ Σ ‖v_i‖² = n, so √(n/(n-1)).
    - Both: all cosines are between 0 and 1, so 1; orthogonal pairs have it.
    A sigmoid comes arbitrarily close. Reached in n dimensions or more (n - 1 for the simplex). A modality without a
    head counts as free, though its features are given: the bound holds but may be far.
    """
    sigmoids = outputs.count("sigmoid")
    return math.pow(pairs / (pairs - 1), 1 - sigmoids / 2)


class ContrastiveLoss(nn.Module, ABC):
    """An experiment's loss. Its parameters are what it learns: `log_scale`, `bias` or none.

    A learned temperature is the exponential of -`log_scale`, as in CLIP, and stays at or above 0.01. A new loss defines
    `forward`, `chance` and `lowest`; without them its class cannot be instantiated (TypeError).
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.outputs, self.bounded = experiment.outputs, all(experiment.unit)
        self.fixed = experiment.temperature
        self.log_scale: nn.Parameter | None = None
        if experiment.learned_temperature:
            self.log_scale = nn.Parameter(torch.tensor(-math.log(experiment.temperature)))

    def scale(self) -> Tensor | float:
        """Return what cosines are multiplied by, 1 / temperature; a scalar with a gradient if it is learned."""
        if self.log_scale is None:
            return 1 / self.fixed
        with torch.no_grad():  # the step before may have gone too far; clamping the value keeps its gradient
            self.log_scale.clamp_(max=-math.log(LOWEST_LEARNED))
        return self.log_scale.exp()

    def temperature(self) -> float:
        """Return the present temperature."""
        if self.log_scale is None:
            return self.fixed
        return max(self.log_scale.neg().exp().item(), LOWEST_LEARNED)

    @abstractmethod
    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Return the loss of unit vectors [n, d] each, a scalar."""

    @abstractmethod
    def chance(self, pairs: int) -> float:
        """Return the lowest loss over a batch of `pairs` of a model to which every candidate looks equally likely."""

    @abstractmethod
    def lowest(self, pairs: int) -> float:
        """Return a lower bound of the loss over a batch of `pairs`, for these heads and the present temperature."""


class ConvexLoss(ContrastiveLoss):
    """A loss that is a convex function of the cosines and does not care how pairs are numbered.

    By Jensen's inequality it is at least its value where all positives have one cosine and all negatives another. That
    depends on the gap between the two alone: it is the `floor`, from which `chance` and `lowest` follow.
    """

    @staticmethod
    @abstractmethod
    def floor(pairs: int, gap: float, scale: float) -> float:
        """Return the lowest loss over `pairs` ≥ 2 with positives' cosines on average `gap` above negatives'."""

    def chance(self, pairs: int) -> float:
        """Return the floor without a gap; 0 for a single pair."""
        return self.floor(pairs, 0.0, 1.0) if pairs > 1 else 0.0

    def lowest(self, pairs: int) -> float:
        """Return the floor at the largest gap that the heads' activations allow; 0 for a single pair.

        Dot products with vectors of any length have no largest gap.
        """
        gap = largest_gap(pairs, self.outputs) if self.bounded and pairs > 1 else math.inf
        return self.floor(pairs, gap, 1 / self.temperature()) if pairs > 1 else 0.0


class InfoNCE(ConvexLoss):
    """`info_nce`: bidirectional InfoNCE, the published code's loss. Chance is ln(n).

    Per direction -log of the positive's share among all candidates: equation 4 of van den Oord et al. 2018 (arXiv
    1807.03748); the symmetric mean is CLIP's (Radford et al. 2021, arXiv 2103.00020).
    """

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Return the loss of unit vectors [n, d] each, a scalar."""
        logits = audio * self.scale() @ video.T
        return cross_entropy(logits, logits.diagonal())

    @staticmethod
    def floor(pairs: int, gap: float, scale: float) -> float:
        """Return ln(1 + (n-1)·exp(-gap·scale))."""
        return math.log1p((pairs - 1) * math.exp(-gap * scale))


class Paper(ConvexLoss):
    """`paper`: the paper's equation, InfoNCE with only the negatives in the denominator. Chance is ln(n-1).

    Known as decoupled contrastive learning (Yeh et al. 2022, arXiv 2110.06848). It has no limit at 0.
    """

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Return the loss of unit vectors [n, d] each, a scalar."""
        logits = audio * self.scale() @ video.T
        if len(logits) < 2:
            return logits.sum() * 0
        positives = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        return cross_entropy(logits.masked_fill(positives, -math.inf), logits.diagonal())

    @staticmethod
    def floor(pairs: int, gap: float, scale: float) -> float:
        """Return ln(n-1) - gap·scale."""
        return math.log(pairs - 1) - gap * scale


class SigLIP(ConvexLoss):
    """`siglip`: pairwise sigmoid loss (Zhai et al. 2023, arXiv 2303.15343, equation 1 and algorithm 1).

    Each of the n² pairs is classified alone as positive or negative; the sum of -log σ(±(cosine · scale + bias)) is
    divided by n. It learns the bias. Chance is n times the entropy of a positive with probability 1/n.
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self.bias = nn.Parameter(torch.tensor(experiment.bias))

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Return the loss of unit vectors [n, d] each, a scalar."""
        logits = audio * self.scale() @ video.T + self.bias
        if len(logits) < 2:
            return logits.sum() * 0
        # -log σ(x) = softplus(-x) = softplus(x) - x: first every pair as a negative, then the positives corrected.
        return (functional.softplus(logits).sum() - logits.diagonal().sum()) / len(logits)

    @staticmethod
    def floor(pairs: int, gap: float, scale: float) -> float:
        """Return softplus(-gap·scale - x) + (n-1)·softplus(x), where the bias makes x whatever is best.

        Setting the derivative to 0 and u = exp(x) gives (n-1)·exp(gap·scale)·u² + (n-2)·u - 1 = 0.
        """
        n = pairs
        above = math.exp(min(gap * scale, 700.0))  # the largest that a float holds; the loss is 0 by then
        u = 2 / ((n - 2) + math.sqrt((n - 2) ** 2 + 4 * (n - 1) * above))
        return math.log1p(1 / (above * u)) + (n - 1) * math.log1p(u)


LOSSES: dict[Loss, type[ContrastiveLoss]] = {"info_nce": InfoNCE, "paper": Paper, "siglip": SigLIP}


def loss_of(experiment: Experiment) -> ContrastiveLoss:
    """Return the loss that the experiment asks for."""
    return LOSSES[experiment.loss](experiment)
