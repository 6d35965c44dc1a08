"""Even shares of kinds, in benchmark items and in training."""

from collections import Counter

from layersight.data.benchmarks import even_quotas
from layersight.data.concepts import synthetic_concepts
from layersight.data.conversations import instruct_rows


def test_kinds_have_even_shares_as_far_as_the_pool_goes():
    assert even_quotas(9, {"a": 100, "b": 100, "c": 100}) == {"a": 3, "b": 3, "c": 3}
    assert even_quotas(10, {"a": 100, "b": 2, "c": 100}) == {"a": 4, "b": 2, "c": 4}
    assert even_quotas(99, {"a": 5, "b": 2}) == {"a": 5, "b": 2}


def test_training_asks_for_every_kind_equally_often(smoke):
    rows = instruct_rows(smoke, synthetic_concepts(smoke))
    asked = Counter(row["answer_class"] for row in rows if row["task"] == "kind")
    assert set(asked) == set(smoke.concepts.kinds)
    assert max(asked.values()) - min(asked.values()) <= 1
