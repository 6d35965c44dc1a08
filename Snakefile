"""Layersight: where in depth a language model learns to see.

Loads and checks one study, includes the rules of every stage, and names the targets.
`snakemake --list-target-rules` lists the targets, `snakemake -n` the jobs of the study.
"""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.27")


configfile: "config/config.yaml"


# The library of this checkout, whatever else is installed.
sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

import reruns


include: "workflow/rules/common.smk"
include: "workflow/rules/assets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/activations.smk"
include: "workflow/rules/geometry.smk"
include: "workflow/rules/attention.smk"
include: "workflow/rules/token_clouds.smk"
include: "workflow/rules/patching.smk"
include: "workflow/rules/benchmarks.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


reruns.install(
    results=Path(results("")), scripts=SCRIPTS, index=CODE, planned=before_the_run
)


# On a cluster these run where the command was given.
LOCAL.update(quick_rules())


localrules:
    all,
    data,
    models,
    activations,
    geometry,
    patching,
    benchmarks,
    report,


rule all:
    default_target: True
    input:
        results(artefacts.REPORT),
        results(artefacts.RUN_PAGE),
        results(artefacts.STUDY),


rule data:
    """Concepts, pictures, conversations, probe sets and benchmark items."""
    input:
        rules.make_align.output,
        rules.make_instruct.output,
        rules.make_probes.output,
        expand(results(artefacts.BENCHMARK), benchmark=STUDY.tasks),


rule models:
    """The aligned backbone and every variant."""
    input:
        expand(
            results(artefacts.SUBJECT_MODEL),
            subject=MEASURED,
        ),


rule activations:
    """Activations of every subject on every probe set."""
    input:
        all_activations(),


rule geometry:
    """Geometry tables over layers."""
    input:
        rules.geometry_tables.output,
        rules.concentration.output,


rule patching:
    """Patching sweeps and recovery."""
    input:
        rules.recovery_table.output,


rule benchmarks:
    """Benchmark scores with intervals."""
    input:
        rules.score_tables.output,


rule report:
    """The report alone (what `all` makes)."""
    input:
        results(artefacts.TABLES["scores"]),
        results(artefacts.TABLES["recovery"]),
        results(artefacts.TABLES["change"]),
        results(artefacts.TABLES["training"]),


onsuccess:
    after_the_run()
    print(f"Report: {results(artefacts.REPORT)}")


onerror:
    print(
        "The run has not finished. What went wrong stands above and in "
        f"{results(artefacts.LOGS)}/; the same command goes on where it stopped."
    )
    after_the_run()
    go_on_without_failed()
