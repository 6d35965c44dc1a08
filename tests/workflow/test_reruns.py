"""Which jobs run after an edit: exactly those that it concerns, and no other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.workflow.conftest import Checkout

RESULTS = Path("results/smoke")
LIBRARY = Path("workflow/layersight")
SUBJECTS = ("full/seed-0", "lora-1-3/seed-0")


def jobs(*names: str) -> set[str]:
    """Write `rule *` for every measured subject and `rule +` for every tuned one."""
    found = set()
    for name in names:
        rule, _, which = name.partition(" ")
        if which in ("*", "+"):
            found |= {f"{rule} {subject}" for subject in SUBJECTS}
            found |= {f"{rule} aligned"} if which == "*" else set()
        else:
            found.add(name)
    return found


STUDY = jobs("resolved_study")
REPORT = jobs("make_report", "make_run_page")
SHOWN = jobs("figures") | REPORT
TABLES = jobs("geometry_tables", "concentration")
READS_GRAPHS = jobs("intrinsic_dimension *", "overlap *", "cross_modal *", "change +") | TABLES
GEOMETRY = jobs("find_neighbours *") | READS_GRAPHS
BASE_READS_GRAPHS = jobs("intrinsic_dimension base", "overlap base")
BASE_GEOMETRY = jobs("find_base_neighbours") | BASE_READS_GRAPHS
DIMENSION = jobs("intrinsic_dimension *", "intrinsic_dimension base") | TABLES
SCORES = jobs("score_items *", "score_tables")
PATCHING = jobs("patching_sweep +", "recovery_table")
TRAINED = jobs("tune full 0", "tune lora-1-3 0")
AFTER_TUNING = (
    jobs(
        "capture_activations +",
        "score_items +",
        "find_neighbours +",
        "intrinsic_dimension +",
        "overlap +",
        "cross_modal +",
        "change +",
        "weight_change +",
        "geometry_tables",
        "concentration",
        "score_tables",
        "training_table",
    )
    | PATCHING
    | SHOWN
)
AFTER_ALIGN = (
    TRAINED
    | AFTER_TUNING
    | jobs("capture_activations aligned", "score_items aligned")
    | jobs("find_neighbours aligned", "intrinsic_dimension aligned", "overlap aligned")
    | jobs("cross_modal aligned")
)


def of_one(subject: str) -> set[str]:
    """All that follows from one tuned subject."""
    return (
        {
            f"{rule} {subject}"
            for rule in (
                "capture_activations", "score_items", "find_neighbours", "intrinsic_dimension",
                "overlap", "cross_modal", "change", "weight_change", "patching_sweep",
            )
        }
        | {f"tune {subject.replace('/seed-', ' ')}"}
        | jobs("score_tables", "training_table", "recovery_table")
        | TABLES
        | SHOWN
    )  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """An edit, and the jobs that it makes run.

    Attributes:
        name: of the edit.
        runs: the jobs.
        config: overrides of the study.
        file: edited by replacing `old` with `new`.
        act: anything else; gets the checkout's folder.
        packages: versions that other packages have from now on.
        because: what the reason of one of the jobs must say.
        ask: targets given to Snakemake.
    """

    name: str
    runs: set[str]
    config: tuple[str, ...] = ()
    file: Path | None = None
    old: str = ""
    new: str = ""
    act: Callable[[Path], None] | None = None
    packages: tuple[tuple[str, str], ...] = ()
    because: str = ""
    ask: tuple[str, ...] = ()


def touch_all(folder: Path) -> None:
    for path in (folder / RESULTS).rglob("*"):
        if path.is_file():
            os.utime(path)


def remove(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        path = folder / RESULTS / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return act


def damage(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with (folder / RESULTS / name).open("r+b") as file:
            file.seek(8)
            file.write(b"damaged!")

    return act


def damage_and_restore(name: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        path = folder / RESULTS / name
        before = path.read_bytes()
        damage(name)(folder)
        path.unlink()
        path.write_bytes(before)

    return act


EDITS = [
    # The study.
    Edit("nothing", set()),
    Edit("the title", STUDY | REPORT, ("title=Another",), because="title: Smoke test"),
    Edit("the quota", STUDY, ("quota={disk_gb: 5}",)),
    Edit("how often a checkpoint is kept", STUDY, ("compute={checkpoint_seconds: 7}",)),
    Edit("whether TensorBoard is written", STUDY, ("compute={tensorboard: true}",)),
    Edit(
        "the devices of training",
        STUDY | jobs("align") | AFTER_ALIGN,
        ("compute={devices: 2}",),
        because="compute.devices: 1 -> 2",
    ),
    Edit(
        "what shares the devices",
        STUDY | jobs("align") | AFTER_ALIGN,
        ("compute={parallel: fsdp}",),
    ),
    Edit(
        "the parts of a batch of stage 2",
        STUDY | TRAINED | AFTER_TUNING,
        ("tuning={accumulate: 2}",),
        because="tuning.accumulate: 1 -> 2",
    ),
    Edit(
        "what learns of one variant's vision encoder",
        STUDY | of_one("full/seed-0"),
        ("variants={full: {train_vision: 1}}",),
        because="variants.full.train_vision: none -> 1",
    ),
    Edit(
        "the conversation template",
        STUDY
        | jobs("align", "capture_base_activations", "score_base_items")
        | BASE_GEOMETRY
        | AFTER_ALIGN,
        ("backbone={template: v1}",),
        because="backbone.template: chat -> v1",
    ),
    Edit(
        "whether attention is measured",
        STUDY | jobs("attention *", "attention_tables") | SHOWN,
        ("attention={items: 4}",),
    ),
    Edit("where assets are cached", STUDY, ("assets={cache: /tmp/elsewhere}",)),
    Edit(
        "the number of neighbours",
        STUDY | jobs("cross_modal *", "change +") | TABLES | SHOWN,
        ("geometry={k: 4}",),
        because="geometry.k: 3 -> 4",
    ),
    Edit(
        "the neighbours that are stored",
        STUDY | GEOMETRY | BASE_GEOMETRY | SHOWN,
        ("geometry={neighbours: 20}",),
        because="geometry.neighbours: 128 -> 20",
    ),
    Edit("the memory of their search", STUDY, ("geometry={memory_mb: 500}",)),
    Edit(
        "the neighbours of the overlap curves",
        STUDY | jobs("overlap *", "overlap base") | TABLES | SHOWN,
        ("geometry={ks: [1, 3]}",),
    ),
    Edit(
        "the window that holds a share of the change",
        STUDY | jobs("concentration") | SHOWN,
        ("geometry={concentration_share: 0.8}",),
    ),
    Edit(
        "whether density peaks are found",
        STUDY
        | jobs("pool_neighbours *", "density *", "density base", "geometry_tables", "concentration")
        | SHOWN,
        ("geometry={density: {k: 2}}",),
    ),
    Edit(
        "whether linear probes are fitted",
        STUDY | jobs("linear_probes *", "geometry_tables", "concentration") | SHOWN,
        ("linear_probes={folds: 2}",),
    ),
    Edit(
        "whether token clouds are measured",
        STUDY | jobs("token_clouds *", "token_clouds base", "token_cloud_tables") | SHOWN,
        ("token_clouds={shuffled_prompts: 2}",),
    ),
    Edit(
        "the largest scale of GRIDE",
        STUDY | DIMENSION | SHOWN,
        ("geometry={gride_range_max: 4}",),
    ),
    Edit(
        "the discarded share of TwoNN",
        STUDY | DIMENSION | SHOWN,
        ("geometry={two_nn_fraction: 0.8}",),
    ),
    Edit(
        "the resamples behind a layer's interval",
        STUDY | READS_GRAPHS | BASE_READS_GRAPHS | SHOWN,
        ("geometry={resamples: 150}",),
    ),
    Edit(
        "the resamples behind scores",
        STUDY | jobs("score_tables", "recovery_table") | SHOWN,
        ("statistics={resamples: 300}",),
    ),
    Edit(
        "the level of intervals",
        STUDY | READS_GRAPHS | BASE_READS_GRAPHS | jobs("score_tables", "recovery_table") | SHOWN,
        ("statistics={level: 0.9}",),
    ),
    Edit(
        "one variant's learning rate",
        STUDY | of_one("full/seed-0"),
        ("variants={full: {learning_rate: 5e-4}}",),
        because="variants.full.learning_rate: null -> 0.0005",
    ),
    Edit(
        "one method's option",
        STUDY | of_one("lora-1-3/seed-0"),
        ("variants={lora-1-3: {options: {r: 3}}}",),
    ),
    Edit(
        "the learning rate of all",
        STUDY | TRAINED | AFTER_TUNING,
        ("tuning={learning_rate: 5e-4}",),
    ),
    Edit(
        "the steps of stage 2",
        # The instruction conversations change, and with them the benchmarks' majority answers.
        STUDY
        | TRAINED
        | AFTER_TUNING
        | SCORES
        | jobs("make_instruct", "make_benchmarks", "score_base_items", "make_random_language_model")
        | AFTER_ALIGN
        | jobs("capture_base_activations", "align")
        | BASE_GEOMETRY,
        ("tuning={steps: 5}",),
    ),
    Edit(
        "the learning rate of stage 1",
        STUDY | jobs("align") | AFTER_ALIGN,
        ("align={learning_rate: 5e-4}",),
    ),
    Edit(
        "adding a variant",
        STUDY | of_one("late/seed-0"),
        ("variants={late: {method: full, layers: [2, 4]}}",),
    ),
    Edit(
        "removing a variant",
        STUDY | TABLES | jobs("score_tables", "training_table", "recovery_table") | SHOWN,
        ("variants={lora-1-3: null}",),
    ),
    Edit(
        "adding a seed",
        STUDY | of_one("full/seed-1") | of_one("lora-1-3/seed-1"),
        ("seeds=2",),
    ),
    Edit(
        "removing a benchmark",
        STUDY | jobs("score_tables") | SHOWN,
        ("benchmarks={tasks: [kind_image, kind_text, presence]}",),
    ),
    Edit(
        "removing a probe set",
        STUDY | READS_GRAPHS | BASE_READS_GRAPHS | SHOWN,
        ("probes={sets: [visual_questions, pair_images, pair_texts]}",),
    ),
    Edit(
        "the size of probe sets",
        STUDY
        | jobs("make_probes", "capture_activations *", "capture_base_activations")
        | GEOMETRY
        | BASE_GEOMETRY
        | SHOWN,
        ("probes={items: 20}",),
    ),
    Edit(
        "the number of presence items",
        STUDY | jobs("make_benchmarks", "score_base_items") | SCORES | PATCHING | SHOWN,
        ("benchmarks={presence: 6}",),
    ),
    Edit("items that are patched", STUDY | PATCHING | SHOWN, ("patching={items: 6}",)),
    Edit(
        "the length of answers",
        STUDY | SCORES | PATCHING | jobs("score_base_items") | SHOWN,
        ("benchmarks={max_new_tokens: 3}",),
    ),
    Edit(
        "the size of parts on disk",
        STUDY
        | jobs("capture_activations *", "capture_base_activations")
        | GEOMETRY
        | BASE_GEOMETRY
        | SHOWN,
        ("activations={rows_per_part: 12}",),
    ),
    Edit(
        "the batch size of evaluations",
        STUDY
        | jobs("capture_activations *", "capture_base_activations", "score_base_items")
        | GEOMETRY
        | BASE_GEOMETRY
        | SCORES
        | PATCHING
        | SHOWN,
        ("evaluation={batch_size: 8}",),
    ),
    Edit(
        "the size of pictures",
        STUDY | jobs("make_images", "features", "align") | AFTER_ALIGN,
        ("concepts={image_size: 96}",),
    ),
    Edit(
        "how a picture becomes a square",
        STUDY | jobs("features", "align") | AFTER_ALIGN,
        ("backbone={image_shape: pad}",),
        because="backbone.image_shape: square -> pad",
    ),
    Edit(
        "the connector",
        STUDY | jobs("align") | AFTER_ALIGN,
        ("backbone={connector: {kind: linear}}",),
        because="backbone.connector.kind: mlp2x_gelu -> linear",
    ),
    # The library: what changes no result.
    Edit(
        "a comment",
        set(),
        file=LIBRARY / "geometry/overlap.py",
        old="\nimport ",
        new="\n# A remark.\nimport ",
    ),
    Edit("a docstring", set(), file=LIBRARY / "geometry/overlap.py", old='"""', new='"""Revised: '),
    Edit(
        "layout",
        set(),
        file=LIBRARY / "seeds.py",
        old="def derive_seed(study_seed: int, name: str) -> int:",
        new="def derive_seed(\n    study_seed: int,\n    name: str,\n) -> int:\n",
    ),
    Edit(
        "the order of imports",
        set(),
        file=LIBRARY / "activations/dump.py",
        old="import sys\nimport tempfile\n",
        new="import tempfile\nimport sys\n",
    ),
    Edit(
        "a type annotation",
        set(),
        file=LIBRARY / "seeds.py",
        old="(study_seed: int, name: str) -> int:",
        new="(study_seed: object, name: object) -> object:",
    ),
    Edit(
        "a function that nobody calls",
        set(),
        file=LIBRARY / "seeds.py",
        old="\ndef derive_seed",
        new="\ndef unused() -> int:\n    return 3\n\n\ndef derive_seed",
    ),
    Edit(
        "the wording of progress",
        set(),
        file=LIBRARY / "progress.py",
        old="left in this job",
        new="to go",
    ),
    Edit(
        "a comment in a script",
        set(),
        file=Path("workflow/scripts/tune.py"),
        old="with job",
        new="# A remark.\nwith job",
    ),
    Edit(
        "a comment in a rule",
        set(),
        file=Path("workflow/rules/models.smk"),
        old="\nrule tune",
        new="\n# A remark.\nrule tune",
    ),
    Edit(
        "a new key of the study that nobody reads yet",
        set(),
        file=LIBRARY / "study.py",
        old="class Quota(Strict):",
        new="class Unread(Strict):\n    key: int = 3\n\n\nclass Quota(Strict):",
    ),
    # The library: what changes results.
    Edit(
        "a metric's code",
        DIMENSION | SHOWN,
        file=LIBRARY / "geometry/intrinsic_dimension.py",
        old="np.log(",
        new="1.0 * np.log(",
        because="layersight.geometry.intrinsic_dimension:",
    ),
    Edit(
        "another metric's code",
        jobs("cross_modal *", "change +") | TABLES | SHOWN,
        file=LIBRARY / "geometry/alignment.py",
        old="def linear_cka(",
        new="@staticmethod\ndef linear_cka(",
        because="layersight.geometry.alignment:linear_cka changed",
    ),
    Edit(
        "a helper that the metrics share",
        GEOMETRY | BASE_GEOMETRY | SHOWN,
        file=LIBRARY / "geometry/neighbours.py",
        old="def nearest_neighbours(",
        new="@staticmethod\ndef nearest_neighbours(",
        because="layersight.geometry.neighbours:nearest_neighbours changed",
    ),
    Edit(
        "one figure",
        SHOWN,
        file=LIBRARY / "reporting/figures_training.py",
        old='"step"',
        new='"step "',
    ),
    Edit(
        "the report's template",
        REPORT,
        file=LIBRARY / "reporting/templates/report.html.j2",
        old="</main>",
        new="<p></p></main>",
        because="reporting/templates/report.html.j2 changed",
    ),
    Edit(
        "one method",
        of_one("lora-1-3/seed-0"),
        file=LIBRARY / "tuning/methods/lora.py",
        old='task_type="CAUSAL_LM",',
        new='task_type="CAUSAL_LM", use_rslora=True,',
        because="layersight.tuning.methods.lora:apply changed",
    ),
    Edit(
        "how much of a method learns, by prediction",
        set(),
        file=LIBRARY / "tuning/methods/lora.py",
        old="return [options.r * size",
        new="return [2 * options.r * size",
    ),
    Edit(
        "adding a method",
        set(),
        act=lambda folder: shutil.copy(
            folder / LIBRARY / "tuning/methods/full.py",
            folder / LIBRARY / "tuning/methods/other.py",
        ),
    ),
    Edit(
        "the trainer",
        jobs("align") | AFTER_ALIGN,
        file=LIBRARY / "tuning/runtime.py",
        old="fused=not self.sharded",
        new="fused=not self.sharded, eps=1e-7",
    ),
    Edit(
        "what reads activations",
        jobs("capture_activations *", "capture_base_activations")
        | GEOMETRY
        | BASE_GEOMETRY
        | SHOWN,
        file=LIBRARY / "activations/capture.py",
        old="def capture(",
        new="@staticmethod\ndef capture(",
    ),
    Edit(
        "how hybrids run",
        PATCHING | SHOWN,
        file=LIBRARY / "interventions/hybrid.py",
        old="def run_hybrids(",
        new="@staticmethod\ndef run_hybrids(",
    ),
    Edit(
        "a script",
        jobs("change +") | TABLES | SHOWN,
        file=Path("workflow/scripts/change.py"),
        old='reference="aligned"',
        new='reference="base"',
    ),
    Edit(
        "the chat template of the test model",
        jobs("make_random_language_model", "align", "capture_base_activations", "score_base_items")
        | AFTER_ALIGN
        | BASE_GEOMETRY,
        file=LIBRARY / "models/language.py",
        old="assistant",
        new="model",
    ),
    # Files.
    Edit(
        "touching one file",
        set(),
        act=lambda folder: os.utime(folder / RESULTS / "data/instruct.parquet"),
    ),
    Edit("touching every file", set(), act=touch_all),
    Edit("deleting a figure", jobs("figures"), act=remove("figures/scores.png"), ask=("figures",)),
    Edit("deleting a table that nothing needs again", set(), act=remove("tables/scores.parquet")),
    Edit(
        "deleting the report",
        jobs("make_report"),
        act=remove("report/index.html"),
        because="is missing",
    ),
    Edit("deleting activations", set(), act=remove("activations/full")),
    Edit(
        "deleting activations and asking for them",
        jobs("capture_activations full/seed-0"),
        act=remove("activations/full"),
        ask=("activations",),
    ),
    Edit(
        "damaging a table",
        jobs("score_tables"),
        act=damage("tables/scores.parquet"),
        because="changed on disk",
    ),
    Edit("damaging training data", jobs("make_instruct"), act=damage("data/instruct.parquet")),
    Edit(
        "damaging a variant",
        jobs("tune full 0"),
        act=damage("models/full/seed-0/connector.safetensors"),
    ),
    Edit(
        "damaging and restoring byte for byte",
        set(),
        act=damage_and_restore("data/instruct.parquet"),
    ),
    Edit(
        "losing Snakemake's own memory",
        set(),
        act=lambda folder: shutil.rmtree(folder / ".snakemake"),
    ),
    Edit("a copy of the results with new time stamps", set(), act=touch_all),
    # The environment.
    Edit(
        "upgrading what only figures use",
        SHOWN,
        packages=(("matplotlib", "99.0"),),
        because="package matplotlib",
    ),
    Edit(
        "upgrading what one metric uses",
        DIMENSION | SHOWN,
        packages=(("scipy", "99.0"),),
    ),
    Edit("upgrading what no step imports", set(), packages=(("pytest", "99.0"),)),
]


@pytest.fixture(scope="module")
def finished(smoke_run: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with a finished run, for edits that are taken back."""
    folder = tmp_path_factory.mktemp("finished") / "layersight"
    shutil.copytree(smoke_run.folder, folder, symlinks=True)
    return Checkout(folder)


def why(checkout: Checkout, edit: Edit, packages: Path | None = None) -> dict[str, str]:
    """Return the jobs that a dry run would run, with their reasons."""
    said = checkout.folder.parent / "why"
    said.write_text("")
    environment = {**os.environ, "LAYERSIGHT_WHY": str(said)}
    environment["LAYERSIGHT_CACHE"] = str(checkout.folder / "cache")
    environment.pop("PYTHONPATH", None)
    if any(text.startswith("assets=") for text in edit.config):
        del environment["LAYERSIGHT_CACHE"]
    if packages is not None:
        environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "-n",
            *edit.ask,
            "--config",
            "study=smoke",
            *edit.config,
        ],
        cwd=checkout.folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    lines = said.read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_an_edit_runs_exactly_what_it_concerns(finished: Checkout, edit: Edit, tmp_path: Path):
    kept = tmp_path / "kept"
    touched = [edit.file] if edit.file else []
    if edit.act is not None:
        for part in ("results", ".snakemake", str(LIBRARY)):
            shutil.copytree(finished.folder / part, kept / part, symlinks=True)
    for file in touched:
        before = (finished.folder / file).read_text()
        assert edit.old in before, f"{file} does not hold {edit.old!r}"
        (finished.folder / file).write_text(before.replace(edit.old, edit.new, 1))
    packages = None
    for name, version in edit.packages:
        packages = tmp_path / "packages"
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    try:
        if edit.act is not None:
            edit.act(finished.folder)
        found = why(finished, edit, packages)
    finally:
        if edit.act is not None:
            for part in ("results", ".snakemake", str(LIBRARY)):
                shutil.rmtree(finished.folder / part, ignore_errors=True)
                (kept / part).rename(finished.folder / part)
        for file in touched:
            (finished.folder / file).write_text(before)
    assert set(found) == edit.runs
    if edit.because:
        assert any(edit.because in reason for reason in found.values()), found


def test_after_all_edits_are_taken_back_nothing_runs(finished: Checkout):
    assert why(finished, Edit("nothing", set())) == {}


def test_a_step_that_makes_the_same_again_stops_what_follows(finished: Checkout):
    """A real edit of code that changes no byte: what follows is kept, and nothing is computed."""
    file = finished.folder / LIBRARY / "data/probes.py"
    before = file.read_text()
    parts = sorted((finished.folder / RESULTS / "activations").rglob("part-*"))
    held = [path.read_bytes() for path in parts]
    file.write_text(before.replace("def probe_rows(", "@staticmethod\ndef probe_rows("))
    try:
        expected = jobs("make_probes", "capture_activations *", "capture_base_activations")
        assert expected <= set(why(finished, Edit("", set())))
        done = finished.snakemake("--cores", "2")
        assert done.returncode == 0, done.stdout[-3000:]
        for name in expected - {"make_probes"}:
            assert f"{name}: nothing that it depends on differs; its result is kept" in done.stdout
        assert "item 24/24" not in done.stdout
        assert [path.read_bytes() for path in parts] == held
        assert why(finished, Edit("", set())) == {}
    finally:
        file.write_text(before)
        finished.snakemake("--cores", "2")


def test_two_studies_share_data_features_and_training(finished: Checkout):
    study = finished.folder / "config/studies/other.yaml"
    study.write_text(
        "extends: smoke\nname: other\nbenchmarks: {tasks: [kind_image, kind_text, presence]}\n"
    )
    done = finished.snakemake("data", "models", "features", "--cores", "2", study="other")
    assert done.returncode == 0, done.stdout[-3000:]
    for name in ("make_concepts", "make_images", "features", "align", "tune full 0"):
        assert f"{name}: nothing that it depends on differs; its result is kept" in done.stdout
    assert "step 1/" not in done.stdout and "step 6/" not in done.stdout
    for name in ("connector.safetensors", "language_model.safetensors"):
        ours, theirs = (
            finished.folder / f"results/{study}/models/full/seed-0/{name}"
            for study in ("other", "smoke")
        )
        assert ours.read_bytes() == theirs.read_bytes()


def test_adding_a_benchmark_asks_that_one_alone(finished: Checkout):
    """After the test above: a study of three benchmarks, which gets a fourth."""
    study = finished.folder / "config/studies/other.yaml"
    if not study.is_file():
        pytest.skip("needs the study of the test above")
    done = finished.snakemake("benchmarks", "--cores", "2", study="other")
    assert done.returncode == 0, done.stdout[-3000:]
    study.write_text("extends: smoke\nname: other\n")
    done = finished.snakemake("benchmarks", "--cores", "2", study="other")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "full/seed-0 on naming: item" in done.stdout
    for other in ("kind_image", "kind_text", "presence"):
        assert f"on {other}: item" not in done.stdout
    for rule in ("Tuning", "Aligning", "Reading the activations", "Patching"):
        assert rule not in done.stdout


def test_results_that_the_study_no_longer_names_are_listed_and_not_removed(finished: Checkout):
    environment = {**os.environ, "PYTHONPATH": str(finished.folder / "workflow")}
    for overrides, expected in (((), False), (("variants={lora-1-3: null}",), True)):
        summary = finished.snakemake("--summary", "--config", "study=smoke", *overrides).stdout
        listed = subprocess.run(
            [sys.executable, "-m", "layersight.prune", str(RESULTS)],
            cwd=finished.folder,
            env=environment,
            input=summary,
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        assert ("models/lora-1-3" in listed) is expected
        assert "models/full" not in listed and "tables" not in listed
        assert ("Nothing to prune" in listed) is not expected
    assert (finished.folder / RESULTS / "models/lora-1-3").is_dir()
