"""The list of jobs that a dry run on a cluster shows."""

from __future__ import annotations

from layersight.cluster.listing import Line, render


def test_a_job_is_shown_with_what_it_asks_for_and_where_it_goes():
    tune = Line("tune full 0", "a100-80gb", 8, 46_756, 16, 397_000, 1050, 34_900, 27_038)
    table = Line("score_tables", None, 0, 235, 1, 853, 10, 4, 0.02)
    head, first, second = (line.split("  ") for line in render([tune, table]).splitlines())

    def words(cells: list[str]) -> list[str]:
        return [cell.strip() for cell in cells if cell.strip()]

    assert words(head)[:4] == ["job", "partition", "GPUs", "of one GPU"]
    assert words(head)[4:] == ["threads", "memory", "time at most", "predicted", "disk"]
    assert words(first)[:4] == ["tune full 0", "a100-80gb", "8", "46.8 GB"]
    assert words(first)[4:] == ["16", "397.0 GB", "17.5 h", "9.7 h", "27.0 GB"]
    # It runs where the command was given, and has no GPU.
    assert words(second) == ["score_tables", "here", "1", "853 MB", "10 min", "4 s", "< 1 MB"]


def test_no_jobs_are_no_list():
    assert render([]) == ""
