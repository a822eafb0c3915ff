"""Batches are a function of the seed and the epoch: not of ranks, workers, accumulation or interruptions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from figleaf.data.augment import build_augmentation
from figleaf.data.loader import EpochLoader, EvaluationLoader, TrainingSamples
from figleaf.data.sampler import BatchPlan, plan_batches, shard
from figleaf.errors import FigleafError

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 40, 40, 3), dtype=np.uint8)
LABELS = np.arange(50) % 2


def samples() -> TrainingSamples:
    augmentation = build_augmentation(size=32, translate=0.1, reflect=True, scale_min=0.6, color_jitter=0.2)
    return TrainingSamples(PIXELS, LABELS, np.arange(50), augmentation, seed=3)


@given(st.integers(1, 200), st.integers(1, 8))
def test_every_sample_is_evaluated_once_whatever_the_number_of_ranks(count: int, ranks: int) -> None:
    dealt = np.concatenate([shard(count, rank, ranks) for rank in range(ranks)])
    assert sorted(dealt) == list(range(count))


@given(st.integers(0, 5), st.sampled_from([(1, 1), (2, 1), (1, 4), (2, 2), (4, 1)]))
def test_ranks_and_accumulation_deal_the_same_global_batches(epoch: int, way: tuple[int, int]) -> None:
    ranks, accumulate = way
    whole = BatchPlan(50, 8, seed=1).batches(epoch)
    parts = [BatchPlan(50, 8, 1, rank, ranks, accumulate).batches(epoch) for rank in range(ranks)]
    for step, batch in enumerate(whole):
        dealt = np.concatenate([p[step * accumulate : (step + 1) * accumulate].ravel() for p in parts])
        assert sorted(dealt) == sorted(batch)


def test_epochs_differ_and_repeat() -> None:
    plan = BatchPlan(50, 8, seed=1)
    assert (plan.batches(0) == plan.batches(0)).all()
    assert (plan.batches(0) != plan.batches(1)).any()


def test_accumulation_is_as_little_as_fits() -> None:
    assert plan_batches(1000, batch_size=256, seed=0, max_device_batch=100).accumulate == 4
    assert plan_batches(1000, batch_size=256, seed=0, world_size=2, max_device_batch=128).accumulate == 1


def test_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(FigleafError, match="multiple of the 3 ranks"):
        plan_batches(1000, batch_size=64, seed=0, world_size=3)


def test_set_smaller_than_the_batch_is_one_batch() -> None:
    assert plan_batches(5, batch_size=64, seed=0, world_size=2).batch_size == 4


def test_balanced_sampler_draws_classes_equally() -> None:
    labels = np.array([0] * 900 + [1] * 100)
    weights = np.where(labels == 0, 1 / 900, 1 / 100)
    drawn = labels[BatchPlan(1000, 10, seed=0, weights=weights).batches(0).ravel()]
    assert abs(drawn.mean() - 0.5) < 0.06


def collect(loader: EpochLoader) -> list[dict[str, torch.Tensor]]:
    return list(loader)


def assert_equal(ours: list[dict[str, torch.Tensor]], theirs: list[dict[str, torch.Tensor]]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in ("image", "label", "index"))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_bit(workers: int) -> None:
    plan = BatchPlan(50, 8, seed=1)
    alone, helped = EpochLoader(samples(), plan), EpochLoader(samples(), plan, workers)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        assert_equal(collect(alone), collect(helped))


@pytest.mark.parametrize("given", [0, 1, 4, 6])
def test_restored_loader_goes_on_behind_what_was_given(given: int) -> None:
    plan = BatchPlan(50, 8, seed=1)
    loader = EpochLoader(samples(), plan)
    loader.set_epoch(2)
    iterator = iter(loader)
    for _ in range(given):
        next(iterator)
    state = loader.state_dict()
    restored = EpochLoader(samples(), plan)
    restored.load_state_dict(state)
    restored.set_epoch(2)
    rest = collect(restored)
    whole = EpochLoader(samples(), plan)
    whole.set_epoch(2)
    # After a whole epoch was given out, the loader is at its end and starts the epoch anew when asked again.
    assert_equal(rest, collect(whole)[given % len(plan.batches(2)) :])
    restored.set_epoch(3)
    assert len(collect(restored)) == len(plan.batches(3)), "the offset must not reach into the next epoch"


def test_epochs_augment_differently() -> None:
    loader = EpochLoader(samples(), BatchPlan(50, 50, seed=1))
    first = next(iter(loader))
    loader.set_epoch(1)
    second = next(iter(loader))
    by_index = [batch["image"][batch["index"].argsort()] for batch in (first, second)]
    assert not torch.equal(*by_index)


def test_evaluation_gives_pictures_untouched_and_in_order() -> None:
    batches = list(EvaluationLoader(PIXELS, LABELS, np.arange(10, 31), 8))
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(10, 31))
    assert torch.equal(torch.cat([b["image"] for b in batches]), torch.from_numpy(PIXELS[10:31]).permute(0, 3, 1, 2))
