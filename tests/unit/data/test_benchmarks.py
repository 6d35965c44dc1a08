"""Even shares of kinds, in benchmark items and in training."""

from collections import Counter

from layersight.data.benchmarks import benchmark_rows, even_quotas
from layersight.data.concepts import synthetic_concepts
from layersight.data.conversations import instruct_rows, kind_question


def test_kinds_have_even_shares_as_far_as_the_pool_goes():
    assert even_quotas(9, {"a": 100, "b": 100, "c": 100}) == {"a": 3, "b": 3, "c": 3}
    assert even_quotas(10, {"a": 100, "b": 2, "c": 100}) == {"a": 4, "b": 2, "c": 4}
    assert even_quotas(99, {"a": 5, "b": 2}) == {"a": 5, "b": 2}


def test_training_asks_for_every_kind_equally_often(smoke):
    rows = instruct_rows(smoke, synthetic_concepts(smoke))
    asked = Counter(row["answer_class"] for row in rows if row["task"] == "kind")
    assert set(asked) == set(smoke.concepts.kinds)
    assert max(asked.values()) - min(asked.values()) <= 1


def test_options_are_listed_unless_they_are_all_of_the_kinds(smoke):
    assert kind_question(["round", "pointed"], smoke).endswith(": round or pointed?")
    assert "round" not in kind_question(list(smoke.concepts.kinds), smoke)


def test_with_fewer_options_a_concept_may_be_asked_again_with_others(smoke):
    counts = smoke.benchmarks.model_copy(update={"kind": 40, "choices": 2})
    study = smoke.model_copy(update={"benchmarks": counts})
    concepts = synthetic_concepts(study)
    items = benchmark_rows(study, concepts, instruct_rows(study, concepts))["kind_image"]
    seen = [item for item in items if item["split"] == "seen_style"]
    asked = {(item["concept"], *item["choices"]) for item in seen}
    assert len(seen) == len(asked) == 40
    assert all(item["chance"] == 0.5 for item in seen)
