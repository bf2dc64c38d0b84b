"""What the probes rest on: metrics equal scikit-learn's, and planted labels are found as well as theory allows."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from config.cli import UserError
from config.labels import Probes
from eval.probe.fit import ProbeSplit, epoch_of, fit, standardiser
from eval.probe.measure import MeasuredProbe, Scores, compare, confusion, measure, over_seeds
from eval.probe.metrics import best_thresholds, f1, macro, ranking, resamples, top_class
from pipeline.features import segment_mean


def made_up(seed: int, items: int, classes: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [items, classes] with many equals when `levels` is small, and labels with both values a class."""
    rng = np.random.default_rng(seed)
    truth = rng.random((items, classes)) < 0.4
    truth[0], truth[1] = True, False
    scores = (rng.integers(levels, size=truth.shape) + truth * rng.integers(2, size=truth.shape)) / (levels + 1)
    return scores.astype(np.float32), truth


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(2, 4), st.sampled_from([1, 3, 1000]))
def test_metrics_are_scikit_learns(seed: int, items: int, classes: int, levels: int) -> None:
    scores, truth = made_up(seed, items, classes, levels)
    auc, precision = ranking(scores, truth, np.ones((items, 1), dtype=np.float32))
    np.testing.assert_allclose(auc[0], roc_auc_score(truth, scores, average=None), rtol=1e-12)
    np.testing.assert_allclose(precision[0], average_precision_score(truth, scores, average=None), rtol=1e-12)
    assert macro(auc)[0] == pytest.approx(roc_auc_score(truth, scores, average="macro"))
    assert macro(precision)[0] == pytest.approx(average_precision_score(truth, scores, average="macro"))
    for threshold in (0.3, 0.5):
        value = f1(scores >= threshold, truth, np.ones((items, 1)))
        expected = f1_score(truth, scores >= threshold, average=None, zero_division=0)
        np.testing.assert_allclose(value[0], np.atleast_1d(expected), rtol=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([2, 1000]))
def test_a_resample_counts_as_if_its_items_stood_there_as_often(seed: int, levels: int) -> None:
    scores, truth = made_up(seed, 30, 2, levels)
    owner = np.sort(np.random.default_rng(seed).integers(12, size=30))
    times = resamples(12, owner, 5, seed)
    auc, precision = ranking(scores, truth, times)
    value = f1(scores >= 0.5, truth, times)
    for i, copies in enumerate(times.T.astype(int)):
        drawn = np.repeat(np.arange(30), copies)
        for c in range(2):
            t, s = truth[drawn, c], scores[drawn, c]
            if not t.any():
                assert np.isnan([auc[i, c], precision[i, c], value[i, c]]).all()
                continue
            assert np.isnan(auc[i, c]) if t.all() else auc[i, c] == pytest.approx(roc_auc_score(t, s))
            assert precision[i, c] == pytest.approx(average_precision_score(t, s))
            assert value[i, c] == pytest.approx(f1_score(t, s >= 0.5, zero_division=0))


def test_resamples_draw_whole_videos() -> None:
    owner = np.repeat(np.arange(40), 3)
    times = resamples(40, owner, 200, 7)
    assert (times.reshape(40, 3, 200) == times[::3][:, None]).all() and (times.sum(axis=0) == 120).all()
    np.testing.assert_array_equal(times[::3], resamples(40, np.arange(40), 200, 7))
    assert times.var() == pytest.approx(1 - 1 / 40, rel=0.05)


def test_classes_without_positives_are_left_out_of_the_mean() -> None:
    scores, truth = made_up(0, 40, 3, 1000)
    truth[:, 1] = False
    auc, precision = ranking(scores, truth, np.ones((40, 1), dtype=np.float32))
    assert np.isnan(auc[0]).tolist() == np.isnan(precision[0]).tolist() == [False, True, False]
    assert macro(auc)[0] == pytest.approx((auc[0, 0] + auc[0, 2]) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(macro(np.full((2, 3), np.nan))).all()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 10, 1000]))
def test_thresholds_are_the_best_there_are(seed: int, levels: int) -> None:
    scores, truth = made_up(seed, 50, 3, levels)
    thresholds = best_thresholds(scores, truth)
    value = f1(scores >= thresholds, truth, np.ones((50, 1)))[0]
    for c in range(3):
        precision, recall, _ = precision_recall_curve(truth[:, c], scores[:, c])
        best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert value[c] == pytest.approx(best)


def test_thresholds_come_from_the_validation_split_alone() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((500, 1)) < 0.3
    validation = (truth + rng.normal(size=truth.shape)).astype(np.float32)
    thresholds = best_thresholds(validation, truth)
    shifted = Scores(validation[None] + np.float32(5), thresholds[None], [1], 1)  # another world than validation
    result = measure(shifted, truth, ["a"], np.array([True]), resamples(500, np.arange(500), 100, 0), 500, False)
    everything = 2 * truth.sum() / (truth.sum() + 500)
    assert result.entry["metrics"]["f1"]["value"] == pytest.approx(everything)
    assert result.entry["thresholds"] == [thresholds.tolist()]


def two_gaussians(videos: int, segments: int, distance: float, seed: int, classes: int = 1) -> ProbeSplit:
    """Labels planted along one axis a class: features of unit variance whose means are `distance` apart."""
    rng = np.random.default_rng(seed)
    truth = rng.random((videos, classes)) < 0.5
    features = rng.normal(size=(videos, segments, 8))
    features[:, :, :classes] += distance * truth[:, None]
    # The axes are mixed and shifted, so that neither standardisation nor sparsity gives the answer away.
    mix = np.random.default_rng(99).normal(size=(8, 8)) + 3 * np.eye(8)
    features = 5 + features @ mix
    return ProbeSplit(features.astype(np.float32), np.ones((videos, segments), dtype=bool), truth)


@pytest.mark.parametrize("hidden", [[512, 256], []])
@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0])
def test_planted_labels_are_found_as_well_as_theory_allows(hidden: list[int], distance: float) -> None:
    """Two Gaussians d apart: no classifier has a higher ROC-AUC than Φ(d/√2)."""
    torch.set_num_threads(1)
    train, validation, test = (two_gaussians(n, 1, distance, s) for s, n in enumerate((5000, 1000, 4000)))
    fitted = fit(train, validation, Probes(patience=5, batch=512), hidden, single=False, seed=1)
    scores = fitted.scores(test.features[:, 0])
    auc = ranking(scores, test.truth, np.ones((4000, 1), dtype=np.float32))[0][0, 0]
    bayes = 0.5 * (1 + math.erf(distance / 2))
    # Standard error of an AUC from 2,000 positives and negatives (Hanley and McNeil 1982).
    q1, q2 = bayes / (2 - bayes), 2 * bayes**2 / (1 + bayes)
    error = math.sqrt((bayes * (1 - bayes) + 1999 * (q1 - bayes**2) + 1999 * (q2 - bayes**2)) / 2000**2)
    assert abs(auc - bayes) < 3 * error, (auc, bayes, error)
    # And the probabilities are those of theory, so the fixed threshold of 0.5 is the right one.
    if distance:
        correct = 0.5 * (1 + math.erf(distance / 2 / math.sqrt(2)))
        assert abs(((scores >= 0.5) == test.truth).mean() - correct) < 3 * math.sqrt(correct * (1 - correct) / 4000)


def test_one_label_a_video_is_a_softmax_over_the_classes() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    splits = []
    for videos in (1500, 300, 1000):
        label = rng.integers(4, size=videos)
        features = rng.normal(size=(videos, 2, 6)).astype(np.float32)
        features[:, :, :4] += 2 * np.eye(4, dtype=np.float32)[label][:, None]
        splits.append(ProbeSplit(features, np.ones((videos, 2), dtype=bool), np.eye(4, dtype=bool)[label]))
    fitted = fit(splits[0], splits[1], Probes(patience=5), [64], single=True, seed=0)
    scores = fitted.scores(splits[2].features[:, 0])
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    # The best there is chooses the largest of four coordinates, whose means differ by 2.
    z, best = rng.normal(size=(200_000, 4)), 0.0
    z[:, 0] += 2
    best = float((z.argmax(axis=1) == 0).mean())
    right = splits[2].truth.argmax(axis=1)
    assert abs((scores.argmax(axis=1) == right).mean() - best) < 3 * math.sqrt(best * (1 - best) / 1000)
    whole = Scores(scores[None], np.full((1, 4), 0.5), [fitted.epoch], 6)
    result = measure(
        whole, splits[2].truth, list("abcd"), np.ones(4, dtype=bool), np.ones((1000, 100), np.float32), 9, True
    )
    counts = np.array(result.entry["confusion"]["counts"])
    assert result.entry["metrics"]["accuracy"]["value"] == pytest.approx(accuracy_score(right, scores.argmax(axis=1)))
    assert counts.sum() == 1000 and counts.trace() / 1000 == pytest.approx(result.entry["metrics"]["accuracy"]["value"])
    likely = f1_score(right, scores.argmax(axis=1), average="macro")
    assert result.entry["metrics"]["f1_of_most_likely"]["value"] == pytest.approx(likely)
    assert result.entry["metrics"]["auc"]["value"] == pytest.approx(
        roc_auc_score(splits[2].truth, scores, average="macro")
    )


def test_standardisation_knows_the_training_split_alone_and_only_good_segments() -> None:
    train, validation = two_gaussians(50, 3, 1.0, 0), two_gaussians(50, 3, 1.0, 1)
    good = np.random.default_rng(0).random((50, 3)) < 0.6
    good[:, 0] = True
    train.features[~good] = np.nan
    train.features[:, :, 4] = 7
    split = ProbeSplit(train.features, good, train.truth)
    fitted_to = standardiser(split)
    mean, deviation = fitted_to.mean.numpy(), np.sqrt(fitted_to.squares.numpy() / fitted_to.count)
    np.testing.assert_allclose(mean, train.features[good].mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(deviation, train.features[good].std(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-9)
    fitted = [
        fit(
            split,
            ProbeSplit(held_out, validation.good, validation.truth),
            Probes(max_epochs=2),
            [],
            single=False,
            seed=0,
        )
        for held_out in (validation.features, 100 * validation.features + 3)
    ]
    for probe in fitted:
        np.testing.assert_array_equal(probe.probe.standardise.mean.numpy(), mean)
        assert probe.probe.standardise.scale[4] == 1 and np.isfinite(probe.scores(validation.features[:, 0])).all()


def test_an_epoch_gives_each_video_once_with_a_good_segment() -> None:
    good = np.random.default_rng(0).random((200, 4)) < 0.3
    good[~good.any(axis=1), 2] = True
    rng, seen = np.random.default_rng(1), np.zeros_like(good)
    for _ in range(60):
        order, segment = epoch_of(good, rng)
        assert sorted(order) == list(range(200)) and good[order, segment].all()
        seen[order, segment] = True
    assert (seen == good).all()


def test_equal_seeds_give_equal_probes_and_others_do_not() -> None:
    torch.set_num_threads(1)
    train, validation = two_gaussians(100, 2, 1.0, 0), two_gaussians(40, 2, 1.0, 1)
    a, b, c = (
        fit(train, validation, Probes(max_epochs=3), [16], False, seed).scores(validation.features[:, 0])
        for seed in (4, 4, 5)
    )
    assert (a == b).all() and not (a == c).all()


def test_early_stopping_keeps_the_best_epoch() -> None:
    torch.set_num_threads(1)
    train, validation = two_gaussians(60, 1, 0.0, 0), two_gaussians(60, 1, 0.0, 1)  # nothing to be learned
    fitted = fit(train, validation, Probes(patience=4, batch=8, learning_rate=0.01), [64], False, 0)
    stopped = fit(train, validation, Probes(max_epochs=fitted.epoch, batch=8, learning_rate=0.01), [64], False, 0)
    assert fitted.epoch == stopped.epoch < 20
    np.testing.assert_array_equal(fitted.scores(train.features[:, 0]), stopped.scores(train.features[:, 0]))


def test_intervals_over_seeds() -> None:
    interval = over_seeds(np.array([0.5, 0.6, 0.7]))
    assert (interval["seeds_low"], interval["seeds_high"]) == pytest.approx(
        (0.6 - 4.303 * 0.1 / 3**0.5, 0.6 + 4.303 * 0.1 / 3**0.5), abs=1e-4
    )
    assert over_seeds(np.array([0.5])) == {"seeds": [0.5], "seeds_low": None, "seeds_high": None}


def test_what_is_not_defined_is_none_in_json() -> None:
    truth = np.eye(4, dtype=bool)[:, :1]
    scores = Scores(np.random.default_rng(0).random((2, 4, 1), np.float32), np.full((2, 1), np.nan), [1, 1], 3)
    result = measure(scores, truth, ["a"], np.array([True]), resamples(4, np.arange(4), 100, 0), 4, False)
    json.dumps(result.entry, allow_nan=False)
    f1s = result.entry["metrics"]["f1"]
    assert [f1s[key] for key in ("value", "low", "high", "seeds_low")] == [None] * 4 and f1s["seeds"] == [None, None]
    assert compare(result, result, "f1") == {
        **dict.fromkeys(("difference", "low", "high", "seeds_low", "seeds_high")),
        "differs": False,
    }
    equal = compare(result, result, "auc")
    assert (equal["difference"], equal["low"], equal["high"], equal["differs"]) == (0, 0, 0, False)


def test_representations_differ_only_if_new_trainings_would_show_it_too() -> None:
    """Test videos that all prefer one of two representations say nothing of trainings that disagree."""

    def probe(seeds: list[float]) -> MeasuredProbe:
        entry = {"metrics": {"auc": {"value": float(np.mean(seeds)), "seeds": seeds}}}
        return MeasuredProbe(entry, {"auc": np.full(100, np.mean(seeds))}, 20)

    base = probe([0.5, 0.5, 0.5])
    agree, disagree = compare(probe([0.6, 0.61, 0.59]), base, "auc"), compare(probe([0.9, 0.5, 0.4]), base, "auc")
    assert agree["differs"] and agree["seeds_low"] > 0
    assert not disagree["differs"] and disagree["low"] > 0 > disagree["seeds_low"]
    assert compare(probe([0.6]), probe([0.5]), "auc")["differs"]  # one seed has no interval


def test_confusion_rows_are_the_truth() -> None:
    scores = np.array([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]])
    assert confusion(scores, np.array([0, 1, 1]), ["a", "b"])["counts"] == [[1, 0], [1, 1]]
    assert top_class(scores[0]).tolist() == [[True, False], [True, False], [False, True]]


def test_pooling_takes_good_segments_only() -> None:
    features = np.array([[[1.0, 2.0], [3.0, 6.0]], [[5.0, 5.0], [np.nan, np.nan]]], dtype=np.float16)
    good = np.array([[True, True], [True, False]])
    assert segment_mean(features, good).tolist() == [[2, 4], [5, 5]]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # of the infinite feature
@pytest.mark.parametrize("hidden", [[], [16]])
@pytest.mark.parametrize("why", ["an infinite feature", "a learning rate"])
def test_a_probe_that_diverges_is_not_scored(hidden: list[int], why: str) -> None:
    """Its initial weights would pass for a probe that found nothing."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 1, 5)).astype(np.float32)
    split = ProbeSplit(features, np.ones((60, 1), bool), features[:, 0, :2] > 0)
    broken = features.copy()
    broken[7, 0, 3] = np.inf
    settings = Probes(max_epochs=60, batch=20, learning_rate=1e19 if why == "a learning rate" else 0.01)
    train = ProbeSplit(broken if why == "an infinite feature" else features, split.good, split.truth)
    with pytest.raises(
        UserError, match=r"linear on x in epoch \d+ diverged \(validation loss .*lower probes.learning_r"
    ):
        fit(train, split, settings, hidden, False, 0, "linear on x")
