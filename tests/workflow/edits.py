"""Edits of a study or of its code, and the jobs that each may run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
