"""The figures of a study as files, and its report as one page that needs nothing else.

Both follow from the study and its tables alone, so that the same study gives the same bytes; what
differs from run to run stands on a page of its own (`layersight.reporting.run_page`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd
import yaml
from markupsafe import Markup

from layersight import artefacts
from layersight.errors import DataError
from layersight.parallel import call_all
from layersight.reporting import provenance_pages
from layersight.reporting.catalogue import FIGURES
from layersight.reporting.dag import dag_svg as draw_dag
from layersight.reporting.dag import study_graph
from layersight.reporting.figure_names import figure_names, tables_of
from layersight.reporting.figures_scores import whole
from layersight.reporting.gaps import consequences, left_out
from layersight.reporting.lineup import BENCHMARK_WORDS, BRIEF_METRICS, SPLIT_WORDS, Lineup
from layersight.reporting.no_data import no_data, say_no_data, says_no_data
from layersight.reporting.pages import Page, interval_page, page
from layersight.reporting.render import render
from layersight.reporting.run_page import RUN_PAGE
from layersight.reporting.style import save
from layersight.reporting.wording import sentences_of
from layersight.slices import findings, take
from layersight.storage.atomic import atomic_file, atomic_folder
from layersight.storage.tables import read_frame
from layersight.study import Study

SENTENCES = "sentences.json"
# Whose first sentence says what was found; the second ones qualify it, so they come along.
FINDINGS = (
    "scores", "differences", "recovery_cumulative", "recovery_sliding", "concentration", "change",
)  # fmt: skip
FINDINGS_BY_FIRST = (
    "overlap_tuned", "intrinsic_dimension", "overlap_modalities", "density_peaks", "linear_probes",
    "token_cloud_loss",
)  # fmt: skip
CAPTIONS = {
    "scores": "Scores: one row per subject, benchmark, split, condition and metric.",
    "differences": "Paired differences to aligned, on the same items.",
    "recovery": "Score and recovery of every patched model.",
    "intrinsic_dimension": "Intrinsic dimension per estimator, neighbour ranks n1, n2 and parts.",
    "overlap": "Neighbourhood overlap at several numbers of neighbours k.",
    "label_overlap": "Share of neighbours with the item's label; k is 0 where it is a share.",
    "density": "Density peaks, and their agreement with labels.",
    "density_merges": "Merges of the peaks' hierarchy, lowest first.",
    "density_peaks": "Every density peak, with the commonest label of its items.",
    "alignment": "How two clouds of the same items lie to each other.",
    "spectrum": "Spectrum, anisotropy and massive activations of a cloud.",
    "massive": "Dimensions with massive or the largest values.",
    "linear_probes": "Linear probes, trained on one modality and tested on both.",
    "token_clouds": "Means over prompts, one cloud a prompt.",
    "token_cloud_loss": "Correlation of the dimension of a prompt's cloud with its loss.",
    "matrix_change": "Change of every matrix of every block; the matrix all is the whole block.",
    "concentration": "Centre of mass of the change and the smallest window with the share of it.",
    "cross_modal": "Agreement of picture and words.",
    "change": "Change of representations against the reference.",
    "weight_change": "Frobenius norm of the change of every block's weights.",
    "training": "Every optimiser step.",
    "attention": "Attention to the image over attention to the text, per block.",
    "attention_summary": "The same, averaged over blocks, and the numbers of trained parameters.",
}


def build_figures(
    study: Study,
    *,
    tables: Mapping[str, Path],
    out: Path,
    processes: int = 1,
    failed: Mapping[str, str] | None = None,
) -> None:
    """Draw every figure that the study has (`figure_names`) and write its two sentences.

    A figure for which the tables hold no rows, as when every variant failed, is empty and says so.

    Args:
        study: the study.
        tables: name of the table (a key of `tables_of`) to its file.
        out: folder that appears whole, with `<name>.png`, `<name>.pdf` and `sentences.json`
            (figure to its two sentences, in the report's order).
        processes: how many figures are drawn side by side.
        failed: tuned subject that has no rows in the tables to the reason.

    Raises:
        DataError: a table is missing.
    """
    lineup = Lineup.of(study, failed or ())
    asked = figure_names(study)
    shown = [entry for entry in FIGURES if entry.name in asked]
    frames = _read(tables, sorted({name for entry in shown for name in entry.tables}))
    with atomic_folder(out) as beside:
        calls = [
            partial(_make, entry.name, [frames[name] for name in entry.tables], lineup, beside)
            for entry in shown
        ]
        said = dict(zip((entry.name for entry in shown), call_all(calls, processes), strict=True))
        text = json.dumps(said, indent=2, ensure_ascii=False) + "\n"
        (beside / SENTENCES).write_text(text, encoding="utf-8")


def _make(name: str, frames: list[pd.DataFrame], lineup: Lineup, folder: Path) -> list[str]:
    """Draw and save one figure; return its two sentences."""
    (entry,) = (entry for entry in FIGURES if entry.name == name)
    if not entry.applies(frames[0]):
        save(no_data(lineup), folder, name)
        return sentences_of(say_no_data(lineup))
    save(entry.draw(*frames, lineup), folder, name)
    return sentences_of(entry.say(*frames, lineup))


def build_report(
    study: Study,
    *,
    tables: Mapping[str, Path],
    figures: Path,
    dag_svg: str | None = None,
    manifests: Mapping[str, Path],
    out: Path,
    failed: Mapping[str, str] | None = None,
) -> None:
    """Write the report of a study as one self-contained HTML file.

    The same study gives the same bytes: no measured time or memory, no machine, no date, no version
    and no path outside `results/` is in it. Its only link leads to the page of the run beside it.

    Args:
        study: the study.
        tables: name of the table to its file; besides those of `tables_of`, `concepts` may
            be given, from which the data are counted.
        figures: folder written by `build_figures`.
        dag_svg: drawing of the steps, as `reporting.dag.dag_svg` writes it; None draws the stages
            of the study. It is placed in the page as it is.
        manifests: artefact (such as `models/full/seed-0`) to its `manifest.json`; only the numbers
            of trained parameters are read.
        out: the HTML file.
        failed: tuned subject that has no rows in the tables to the reason.

    Raises:
        DataError: a table or the figures are missing.
    """
    gaps = left_out(study, failed or {})
    lineup = Lineup.of(study, failed or ())
    frames = _read(tables, list(tables_of(study)))
    said = _sentences(figures)
    if dag_svg is None:
        stages, edges = study_graph(study)
        dag_svg = draw_dag(stages, edges, title=f"Steps of the study {study.name}")
    html = render(
        "report.html.j2",
        study=study,
        left_out=gaps,
        consequences=consequences(lineup),
        run_page=RUN_PAGE,
        findings=_findings(said),
        reading=lineup.reading,
        figures=[
            {
                "name": entry.name,
                "title": entry.title,
                "sentences": said[entry.name],
                "reading": "" if says_no_data(said[entry.name]) else lineup.reading,
                "image": _data_uri(figures / f"{entry.name}.png"),
            }
            for entry in FIGURES
            if entry.name in said
        ],
        score_page=interval_page(
            "scores",
            f"Scores with {lineup.bands} in brackets, beside chance and the majority answer.",
            _brief(frames["scores"]),
            lineup=lineup,
            by=["benchmark", "split", "metric"],
            extra=["chance", "majority"],
        ),
        difference_page=interval_page(
            "differences",
            f"Differences to aligned on the same items, with {lineup.bands} in brackets.",
            _brief(frames["differences"]),
            lineup=lineup,
            by=["benchmark", "split", "metric"],
        ),
        pages=[_table(study, name, frames[name]) for name in tables_of(study)],
        concept_page=_concepts(study, tables),
        model_page=provenance_pages.models(study, manifests, lineup),
        limits=provenance_pages.limits(study),
        dag=Markup(dag_svg),  # noqa: S704 - a drawing, not text of users
        settings=yaml.safe_dump(
            take(study, *findings()),
            sort_keys=False,
            allow_unicode=True,
            width=100,
        ),
    )
    with atomic_file(out) as beside:
        beside.write_text(html, encoding="utf-8")


def _read(tables: Mapping[str, Path], names: list[str]) -> dict[str, pd.DataFrame]:
    missing = [name for name in names if name not in tables]
    if missing:
        raise DataError(f"the report needs the tables {', '.join(missing)}, which are not given")
    return {name: read_frame(tables[name]) for name in names}


def _sentences(figures: Path) -> dict[str, list[str]]:
    path = figures / SENTENCES
    if not path.is_file():
        raise DataError(f"{path}: not there; draw the figures first")
    said: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return said


def _findings(said: Mapping[str, list[str]]) -> list[str]:
    found = {name: parts for name, parts in said.items() if not says_no_data(parts)}
    full = [" ".join(found[name]) for name in FINDINGS if name in found]
    return full + [found[name][0] for name in FINDINGS_BY_FIRST if name in found]


def _data_uri(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: the figure is not there; draw the figures again")
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _table(study: Study, name: str, frame: pd.DataFrame) -> Page:
    source = f"{artefacts.RESULTS.format(study=study.name)}/{tables_of(study)[name]}"
    return page(name, CAPTIONS[name], frame, source)


def _brief(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that stand at the head of the report: one or two metrics of every benchmark."""
    rows = whole(frame)
    rows = rows[rows["metric"].isin(BRIEF_METRICS)]
    orders = {"benchmark": list(BENCHMARK_WORDS), "split": list(SPLIT_WORDS)}
    for key, known in orders.items():  # sets of questions come last
        known.extend(sorted(set(rows[key]) - set(known)))
    return rows.sort_values(
        ["benchmark", "split"],
        key=lambda column: column.map(orders[str(column.name)].index),
        kind="stable",
    )


def _concepts(study: Study, tables: Mapping[str, Path]) -> Page | None:
    if "concepts" not in tables:
        return None
    frame = read_frame(tables["concepts"])
    counts = frame.groupby("kind").agg(
        concepts=("unseen", "size"), held_out=("unseen", "sum"), subgroups=("subgroup", "nunique")
    )
    counts = counts.reindex([kind for kind in study.concepts.kinds if kind in counts.index])
    counts["trained"] = counts["concepts"] - counts["held_out"]
    counts.loc["all"] = counts.sum()
    return page("concepts", "Concepts per kind.", counts.astype(int).reset_index())
