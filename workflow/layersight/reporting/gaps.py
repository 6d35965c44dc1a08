"""Subjects without results: which are left out, why, and what that means for the rest."""

from __future__ import annotations

from collections.abc import Mapping

from layersight.reporting.lineup import Lineup
from layersight.study import Study


def left_out(study: Study, failed: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the subjects without results and why they have none, in the study's order.

    Args:
        study: the study.
        failed: subject (`<variant>/seed-<s>`) to the message of its failure.

    Raises:
        ValueError: a subject is none of the study's tuned ones.
    """
    unknown = sorted(set(failed) - set(study.tuned_subjects))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: not a tuned subject of the study {study.name}")
    return [
        (subject, " ".join(failed[subject].removeprefix(f"{subject}:").split()))
        for subject in study.tuned_subjects
        if subject in failed
    ]


def consequences(lineup: Lineup) -> list[str]:
    """What missing subjects mean for reading a report, in sentences; none if none is missing."""
    if not lineup.failed:
        return []
    if lineup.all_failed:
        return [
            "No tuned subject is left: only what was measured before tuning is shown, figures and "
            "tables of tuned models are empty, and the study’s question stays open."
        ]
    found = []
    gone = [name for name in lineup.variants if not lineup.seeds_of(name)]
    left = [name for name in lineup.variants if lineup.seeds_of(name)]
    if gone:
        found.append(
            f"No table, figure or sentence below has anything of {', '.join(gone)}: what is said "
            f"of variants, such as which is highest, is about {', '.join(left)} only."
        )
    fewer = [name for name in left if lineup.seeds_of(name) < lineup.planned(name)]
    if fewer:
        counts = ", ".join(
            f"{name} on {lineup.seeds_of(name)} of {lineup.planned(name)} seeds" for name in fewer
        )
        found.append(
            f"Some results stand on fewer seeds: {counts}. Seeds do not fail at random: those that "
            "are left may look better and steadier than the variant is."
        )
    found.append("Colours and markers are those that the study has without the gap.")
    return found


def mark(lineup: Lineup, variant: str) -> str:
    """What a table says of a variant that lacks seeds; empty if it has all."""
    left = lineup.seeds_of(variant)
    if left == lineup.planned(variant):
        return ""
    if not left:
        return "LEFT OUT: training failed."
    return f"INCOMPLETE: training failed in {lineup.seeds - left} of {lineup.seeds} seeds."
