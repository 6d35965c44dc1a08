"""The cost before the work: predictions against a measured run, and against the real parts."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from tests.conftest import ROOT

from layersight import cost
from layersight.cost import sizes
from layersight.cost.measured import Measured, fingerprint, jobs
from layersight.cost.rules import ON_GPU
from layersight.interventions.hybrid import block_runs
from layersight.interventions.sweep import plan
from layersight.models import registry
from layersight.models.connectors import Connector
from layersight.models.deltas import save_connector, save_delta
from layersight.models.language import load_language_model
from layersight.reporting.figure_names import asks_for
from layersight.study import Study
from layersight.study_file import load_study
from layersight.tuning import methods

TABLE = Path(__file__).with_name("cost_mini.csv")
TOOLBOX_TABLE = Path(__file__).with_name("cost_toolbox.csv")
# How the run behind the second table differs from mini, so that every rule is measured.
TOOLBOX = {
    "align__batch_size": 12,
    "probes__items": 80,
    "geometry__density": {"k": 8},
    "geometry__alignment": {"permutations": 39},
    "geometry__spectrum": {},
    "linear_probes": {"every": 5, "strengths": [1e-3, 1e-1, 1.0], "folds": 3, "inner_folds": 2},
    "token_clouds": {"prompts": 6, "shuffled_prompts": 3, "largest_shuffle": 1},
    "patching__items": 12,
    "benchmarks__kind": 36,
    "benchmarks__presence": 12,
    "benchmarks__naming": 12,
    "attention__items": 12,
}
STUDIES = ROOT / "config/studies"
IN_CACHE = ("fetch_package", "convert_language_model")
LLAMA = "llama-7b"


@pytest.fixture(scope="module")
def mini() -> Study:
    return load_study(STUDIES / "mini.yaml")


@pytest.fixture(scope="module")
def toolbox(mini) -> Study:
    return study_with(mini, **TOOLBOX)


@pytest.fixture(scope="module", params=["mini", "toolbox"])
def run(request) -> tuple[Study, list[Measured]]:
    """A study, and what its jobs took."""
    table = {"mini": TABLE, "toolbox": TOOLBOX_TABLE}[request.param]
    return request.getfixturevalue(request.param), read(table)


def read(table: Path) -> list[Measured]:
    lines = [line for line in table.read_text().splitlines() if not line.startswith("#")]
    return [
        Measured(
            row["rule"],
            row["job"],
            float(row["seconds"]),
            float(row["memory_mb"]),
            float(row["disk_mb"]),
        )
        for row in csv.DictReader(lines)
    ]


def predicted(study: Study, job: Measured) -> cost.Cost:
    return cost.predict(study, job.rule, **job.wildcards)


def study_with(base: Study, **changes: object) -> Study:
    data = base.model_dump(mode="json")
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = data
        for parent in parents:
            part = part[parent]
        part[last] = value
    return Study.model_validate_json(json.dumps(data))


@pytest.fixture
def llama(mini: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of LLaVA-1.5-7B's sizes: Llama of 7B, 24 × 24 image tokens, batches of 16."""
    shape = sizes.Shape(32, 4096, 11_008, 4096, 32_000, tied=False)
    model = registry.PackagedLanguageModel("-", "-", 32, 4096, shape.parameters, "for this test")
    monkeypatch.setitem(sizes.SHAPES, LLAMA, shape)
    monkeypatch.setitem(registry.LANGUAGE_MODELS, LLAMA, model)
    data = mini.model_dump(mode="json")
    data["backbone"]["language_model"]["name"] = LLAMA
    data["backbone"]["vision_encoder"]["grid"] = 24
    data["compute"] |= {"device": "cuda", "precision": "bfloat16"}
    return Study.model_validate_json(json.dumps(data))


def test_the_measurements_are_of_the_study_mini_as_it_is(mini, toolbox):
    assert f"fingerprint {fingerprint(toolbox)}" in TOOLBOX_TABLE.read_text()
    assert f"fingerprint {fingerprint(mini)}" in TABLE.read_text(), (
        "config/studies/mini.yaml has changed in what costs depend on. Run it, then measure "
        "anew with `python benchmarks/measured_cost.py results/mini > tests/unit/cost_mini.csv`"
    )


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("tuning__steps", 45, False),
        ("backbone__vision_encoder__grid", 3, False),
        ("variants__lora__options", {"r": 8}, False),
        ("tuning__learning_rate", 2e-4, True),
        ("title", "Another one", True),
        ("quota__disk_gb", 5.0, True),
    ],
)
def test_the_fingerprint_changes_with_what_costs_depend_on_and_with_nothing_else(
    mini, key, value, same
):
    assert (fingerprint(study_with(mini, **{key: value})) == fingerprint(mini)) == same


def test_disk_is_predicted_within_a_tenth(run):
    study, measured = run
    ours = [job for job in measured if job.rule not in IN_CACHE]
    written = sum(job.disk_mb for job in ours)
    assert sum(predicted(study, job).disk_mb for job in ours) == pytest.approx(written, rel=0.1)
    for job in ours:
        if job.disk_mb > 1:
            assert predicted(study, job).disk_mb == pytest.approx(job.disk_mb, rel=0.1), job


def test_memory_is_never_predicted_too_low_and_at_most_twice_too_high(run):
    study, measured = run
    peaks, said = defaultdict(float), defaultdict(float)
    for job in measured:
        expected = predicted(study, job).memory_mb
        assert expected >= job.memory_mb, f"{job.rule} {job.job}: predicted {expected:.0f} MB"
        peaks[job.rule] = max(peaks[job.rule], job.memory_mb)
        said[job.rule] = max(said[job.rule], expected)
    for rule, peak in peaks.items():
        assert said[rule] <= 2 * peak, f"{rule}: {said[rule]:.0f} MB for {peak:.0f} MB"


def test_time_is_predicted_within_a_fifth_in_all_and_a_half_for_long_jobs(run):
    study, measured = run

    def core_seconds(job: Measured, seconds: float) -> float:
        two = job.rule in ("align", "tune", "make_images", "features")
        return seconds * (2 if two else 1)

    spent = sum(core_seconds(job, job.seconds) for job in measured)
    expected = sum(core_seconds(job, predicted(study, job).seconds) for job in measured)
    assert expected == pytest.approx(spent, rel=0.2)
    for job in measured:
        if job.seconds > 20:
            assert predicted(study, job).seconds == pytest.approx(job.seconds, rel=0.5), job


def test_every_job_of_the_measurement_has_a_rule_and_every_rule_a_measurement():
    measured = read(TABLE) + read(TOOLBOX_TABLE)
    # The report on the run itself is not part of that run; the others are those of other studies.
    unmeasured = {
        "make_run_page", "make_random_language_model", "import_align", "import_instruct",
        "fetch_model", "fetch_pictures", "fetch_conversations", "take_connector",
        "take_released", "fetch_questions", "read_questions", "join_images", "make_question_tasks",
    }  # fmt: skip
    assert {job.rule for job in measured} | unmeasured == set(cost.RULES)


@pytest.mark.parametrize("name", ["smoke", "mini", "mini-geometry", "small"])
def test_every_rule_of_every_study_has_a_prediction(name):
    study = load_study(STUDIES / f"{name}.yaml")
    variant = next(iter(study.variants))
    given = {
        "fetch_package": [{"package": "openmoji-17.0.0"}],
        "tune": [{"variant": variant, "seed": "0"}],
        "capture_activations": [{"subject": "base"}, {"subject": "aligned"}],
        "score_items": [{"subject": "base"}, {"subject": f"{variant}/seed-0"}],
        "intrinsic_dimension": [{"subject": "base"}],
        "patching_sweep": [{"subject": f"{variant}/seed-0"}],
        **{rule: [{"subject": f"{variant}/seed-0"}] for rule in ("change", "weight_change")},
        "cross_modal": [{"subject": "aligned"}],
    }
    asked = {
        "attention": ("attention", "attention_tables"),
        "token_clouds": ("token_clouds", "token_cloud_tables"),
        "linear_probes": ("linear_probes",),
        "geometry.density": ("density", "pool_neighbours"),
        "geometry.alignment": ("alignment",),
        "geometry.spectrum": ("spectrum",),
    }
    absent = {rule for key, rules in asked.items() if not asks_for(study, key) for rule in rules}
    if not study.questions:
        absent |= {"read_questions", "join_images", "make_question_tasks", "fetch_questions"}
    for rule in cost.RULES.keys() - absent:
        for wildcards in given.get(rule, [{}]):
            found = cost.predict(study, rule, **wildcards)
            assert found.seconds > 0 and found.memory_mb > 0 and found.disk_mb > 0, rule


def test_a_rule_without_prediction_is_named(mini):
    with pytest.raises(KeyError, match="no prediction for the rule 'rotate'"):
        cost.predict(mini, "rotate")


def test_every_packaged_language_model_has_the_sizes_that_the_registry_gives():
    assert set(sizes.SHAPES) == set(registry.LANGUAGE_MODELS)
    for name, model in registry.LANGUAGE_MODELS.items():
        shape = sizes.SHAPES[name]
        assert (shape.layers, shape.width) == (model.layers, model.width)
        assert shape.parameters == model.parameters


@pytest.mark.parametrize(
    "variant",
    [
        {"method": "full"},
        {"method": "full", "layers": [1, 3]},
        {"method": "lora", "layers": [1, 4], "options": {"r": 2, "target_modules": ["v_proj"]}},
        {"method": "lora"},
        {"method": "ia3"},
        {"method": "oft", "options": {"r": 4}},
        {"method": "adapter", "layers": [0, 2], "options": {"bottleneck": 8}},
        {"method": "mores", "layers": {"every": 2}, "options": {"rank": 2}},
        {"method": "reft", "layers": [1, 3]},
        {"method": "connector"},
    ],
)
def test_what_learns_is_what_the_method_makes_learn_and_stores(
    smoke, tiny_folder, tmp_path, variant
):
    model, _ = load_language_model(tiny_folder, dtype=torch.float32)
    size = {"layers": 4, "width": 32, "heads": 4, "intermediate": 64}
    study = study_with(
        smoke, variants={"x": variant}, backbone__language_model={"source": "random"} | size
    )
    chosen = methods.method(variant["method"])
    options = chosen.Options.model_validate_json(json.dumps(variant.get("options", {})))
    tuned = chosen.apply(model, options, study.blocks("x"))
    counted = sum(p.numel() for p in tuned.parameters() if p.requires_grad)
    learns = sizes.learning(study, "x")
    # The tiny vocabulary is as large as the texts make it; it is assumed to be full.
    spare = (sizes.RANDOM_VOCABULARY - model.config.vocab_size) * 32
    outer = spare if variant == {"method": "full"} else 0
    assert learns.parameters - outer == counted
    save_delta(tuned, tmp_path)
    stored = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    expected = counted * learns.bytes_each + learns.tensors * 130
    assert stored == pytest.approx(expected, rel=0.1)


def test_the_connector_is_as_large_as_its_file(mini, tmp_path):
    save_connector(Connector(1280, 576), tmp_path)
    stored = (tmp_path / "connector.safetensors").stat().st_size
    assert sizes.connector_parameters(mini) * 4 == pytest.approx(stored, rel=0.001)


@pytest.mark.parametrize("name", ["smoke", "mini", "mini-geometry", "small"])
def test_the_prefix_tree_is_counted_as_the_sweep_walks_it(name):
    study = load_study(STUDIES / f"{name}.yaml")
    layers = study.backbone.language_model.layers
    hybrids = [hybrid for _, hybrid in plan(study, layers)]
    family = tuple((s.kind, s.stride, s.width) for s in study.patching.sweeps)
    assert cost.steps.prefix_tree(layers, family) == (block_runs(hybrids, layers), len(hybrids))


def test_text_only_inputs_have_no_image_stream_and_the_base_model_reads_text_only(mini):
    per_probe = {
        probe: cost.activations(mini, "aligned", [probe]).disk_mb for probe in mini.probes.sets
    }
    assert per_probe["visual_questions"] == pytest.approx(
        1.5 * per_probe["text_questions"], rel=0.01
    )
    text_only = per_probe["text_questions"] + per_probe["pair_texts"]
    assert cost.activations(mini, "base").disk_mb == pytest.approx(text_only)
    assert cost.activations(mini, "aligned").disk_mb == pytest.approx(sum(per_probe.values()))
    halved = study_with(mini, activations__dtype="float16")
    assert cost.activations(halved).disk_mb == pytest.approx(
        cost.activations(mini).disk_mb / 2, rel=0.01
    )


def test_streams_and_sites_cost_what_they_store_and_one_a_second_pass_over_pictures(mini):
    def of(probe, **changes):
        changed = study_with(
            mini, **{f"activations__{key}": value for key, value in changes.items()}
        )
        return cost.activations(changed, "aligned", [probe])

    last = {"streams": ["last"]}
    plain = of("visual_questions", **last)
    # Layer 0 has the residual stream alone: 31 layers and three times 30.
    sites = of("visual_questions", **last, sites=["residual", "attention", "mlp", "heads"])
    assert sites.disk_mb == pytest.approx(plain.disk_mb * (31 + 3 * 30) / 31, rel=0.02)
    # Four more streams; one more for names, which have one order only.
    one = {"streams": ["last", "one"]}
    assert of("visual_questions", **one).disk_mb == pytest.approx(5 * plain.disk_mb, rel=0.02)
    names = of("pair_texts", **last)
    assert of("pair_texts", **one).disk_mb == pytest.approx(2 * names.disk_mb, rel=0.02)
    start = 10
    assert of("visual_questions", **one).seconds > 2 * plain.seconds - 2 * start
    assert of("pair_texts", **one).seconds == names.seconds
    every = of("visual_questions", streams=["last", "all"])
    tokens = sizes.sequence(mini, 25)
    assert every.disk_mb == pytest.approx((1 + tokens) * plain.disk_mb, rel=0.02)
    assert every.work_mb > every.disk_mb and every.memory_mb > plain.memory_mb


def test_full_tuning_of_7b_takes_weights_gradients_and_moments_and_stores_the_weights(llama):
    # Weights, gradients and both moments of 6.74e9 parameters, kept in float32 whatever the
    # precision, and without recomputing activations in the backward pass.
    count = cost.parameters(llama)
    assert count == pytest.approx(6.74e9, rel=0.01)
    full, lora = (cost.tune(llama, name) for name in ("full", "lora"))
    states = 4 * count * 4 / 1e6
    tokens = 16 * (24**2 + 30)
    kept = tokens * 32 * (20 * 4096 + 4 * 11_008) * 2 / 1e6
    assert full.memory_mb == pytest.approx(states + kept, rel=0.1)
    assert full.disk_mb == pytest.approx(count * 4 / 1e6, rel=0.01)
    assert full.work_mb == pytest.approx(6 * count * 4 / 1e6, rel=0.02)
    assert lora.disk_mb < full.disk_mb / 50
    assert cost.align(llama).memory_mb < full.memory_mb - 3 * count * 4 / 1e6 * 0.95
    # 2 × 6.74e9 weights pass 512 conversations of 601 tokens three times over, at 140 TFLOPS.
    assert 6 * count * 512 * 601 / 140e12 < full.seconds < 10 * 60
    assert cost.patching(llama).memory_mb > 2 * count * 2 / 1e6


def test_float32_takes_more_memory_than_bfloat16_the_same_disk_and_more_time(llama):
    wide = study_with(llama, compute__precision="float32")
    for name in ("full", "full-10-20"):
        narrow, asked = cost.tune(llama, name), cost.tune(wide, name)
        # Of what learns, only what the backward pass needs is smaller in bfloat16.
        assert 1.1 * narrow.memory_mb < asked.memory_mb < 2 * narrow.memory_mb
        assert asked.disk_mb == narrow.disk_mb
        assert asked.seconds > 3 * narrow.seconds


def test_a_gpu_is_counted_where_the_study_or_the_caller_says_so(mini, llama):
    on_cores = study_with(
        llama,
        token_clouds=TOOLBOX["token_clouds"],
        compute__device="cpu",
        compute__precision="float32",
    )
    for rule in sorted(ON_GPU - {"features"}):
        wildcards = {"subject": "lora/seed-0"} if rule not in ("align", "tune") else {}
        if rule == "tune":
            wildcards = {"variant": "lora"}
        # Token clouds are measured on a core; a model must be large for that not to count.
        study = on_cores if rule == "token_clouds" else mini
        slow = cost.predict(study, rule, **wildcards).seconds
        quick = cost.predict(study, rule, on_gpu=True, **wildcards).seconds
        cuda = study_with(study, compute__device="cuda")
        assert quick == cost.predict(cuda, rule, **wildcards).seconds < slow / 2


def test_a_finished_run_is_read_with_true_peaks_and_sizes(tmp_path):
    timings = tmp_path / "timings/tune/full"
    timings.mkdir(parents=True)
    head = "s\th:m:s\tmax_rss\n"
    (timings / "seed-0.tsv").write_text(head + "3.5\t0:00:03\tNA\n")
    (tmp_path / "timings/make_concepts.tsv").write_text(head + "1.5\t0:00:01\t100.0\n")
    model = tmp_path / "models/full/seed-0"
    model.mkdir(parents=True)
    (model / "manifest.json").write_text('{"peak_memory_mb": 1234.5}')
    (model / "language_model.safetensors").write_bytes(bytes(1_000_000))
    concepts, tune = jobs(tmp_path)
    assert concepts == Measured("make_concepts", "", 1.5, pytest.approx(104.8576), 0.0)
    assert tune.wildcards == {"variant": "full", "seed": "0"}
    assert (tune.rule, tune.memory_mb) == ("tune", 1234.5)
    assert tune.disk_mb == pytest.approx(1.0, abs=0.001)
