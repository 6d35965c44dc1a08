"""The steps of a study as a drawing: a layered graph, laid out and written as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from layersight.reporting.figure_names import figure_names, tables_of
from layersight.study import Study

BOX_WIDTH, BOX_HEIGHT = 132.0, 40.0
GAP_X, GAP_Y = 24.0, 34.0
DUMMY_WIDTH = 20.0
MARGIN = 12.0
SWEEPS = 12

Node = str | tuple[str, str, int]  # a stage, or a bend (from, to, level) of an edge over levels


def study_graph(study: Study) -> tuple[list[tuple[str, int]], list[tuple[str, str]]]:
    """Return the stages of a study with how many outputs each makes, and what feeds what."""
    tuned = len(study.tuned_subjects)
    alone = sum(not variant.reads_pictures for variant in study.variants.values())
    with_pictures = tuned - alone + 1
    on_text = alone + 1
    probes, tasks = study.probes.sets, study.tasks
    # The base model has no connector, like a language model taken alone: they read what shows no
    # picture.
    text_probes = len([name for name in probes if "text" in name])
    text_tasks = len(study.text_tasks)
    stages = [
        ("fetched assets", 1),
        ("concepts and pictures", 1),
        ("conversations", 2),
        ("probe sets", len(probes)),
        ("benchmark items", len(tasks)),
        ("image features", 1),
        ("alignment", 1),
        ("tuning", tuned),
        ("activations", with_pictures * len(probes) + on_text * text_probes),
        ("geometry", with_pictures + on_text),
        ("patching", tuned - alone),
        ("benchmarks", with_pictures * len(tasks) + on_text * text_tasks),
        ("tables", len(tables_of(study))),
        ("figures", len(figure_names(study))),
        ("report", 1),
    ]
    edges = [
        ("fetched assets", "concepts and pictures"),
        ("fetched assets", "alignment"),
        ("concepts and pictures", "conversations"),
        ("concepts and pictures", "probe sets"),
        ("concepts and pictures", "benchmark items"),
        ("concepts and pictures", "image features"),
        ("conversations", "alignment"),
        ("image features", "alignment"),
        ("alignment", "tuning"),
        ("tuning", "activations"),
        ("probe sets", "activations"),
        ("tuning", "patching"),
        ("tuning", "benchmarks"),
        ("benchmark items", "benchmarks"),
        ("benchmark items", "patching"),
        ("activations", "geometry"),
        ("geometry", "tables"),
        ("patching", "tables"),
        ("benchmarks", "tables"),
        ("tables", "figures"),
        ("figures", "report"),
    ]
    return stages, edges


def dag_svg(
    stages: Sequence[tuple[str, int]], edges: Iterable[tuple[str, str]], *, title: str
) -> str:
    """Draw a directed acyclic graph from top to bottom as inline SVG.

    Every stage stands one level below the lowest of its inputs; inside a level, stages are ordered
    by the mean place of their neighbours (Sugiyama, Tagawa and Toda 1981), which keeps crossings
    few. The same graph gives the same text.

    Args:
        stages: name and number of outputs of every stage.
        edges: (from, to), both names of stages.
        title: what the drawing shows, for those who do not see it.

    Raises:
        ValueError: an edge names an unknown stage, or the graph has a cycle.
    """
    names = [name for name, _ in stages]
    links = sorted(set(edges))
    unknown = sorted({end for link in links for end in link} - set(names))
    if unknown:
        raise ValueError(f"edges name stages that are not in the list: {', '.join(unknown)}")
    levels = _levels(names, links)
    rows, segments = _with_bends(names, links, levels)
    _order(rows, segments)
    places, width = _places(rows)
    height = 2 * MARGIN + len(rows) * (BOX_HEIGHT + GAP_Y) - GAP_Y
    parts = [
        f'<svg class="dag" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="max-width:{width:.0f}px" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
    ]
    for upper, lower in segments:
        parts.append(_edge(upper, lower, places))
    for name, count in stages:
        x, y = places[name]
        parts.append(
            f'<rect x="{x - BOX_WIDTH / 2:.1f}" y="{y - BOX_HEIGHT / 2:.1f}" width="{BOX_WIDTH:g}" '
            f'height="{BOX_HEIGHT:g}" rx="5" fill="#eef4f9" stroke="#4a6b85"/>'
            f'<text x="{x:.1f}" y="{y - 2:.1f}" text-anchor="middle" fill="#111">{escape(name)}'
            f'</text><text x="{x:.1f}" y="{y + 13:.1f}" text-anchor="middle" fill="#444">'
            f"× {count}</text>"
        )
    return "\n".join([*parts, "</svg>"])


def _levels(names: Sequence[str], links: Sequence[tuple[str, str]]) -> dict[str, int]:
    levels = dict.fromkeys(names, 0)
    for _ in range(len(names) + 1):
        changed = False
        for start, end in links:
            if levels[end] <= levels[start]:
                levels[end] = levels[start] + 1
                changed = True
        if not changed:
            return levels
    raise ValueError("the stages form a cycle: each waits for another")


def _with_bends(
    names: Sequence[str], links: Sequence[tuple[str, str]], levels: Mapping[str, int]
) -> tuple[list[list[Node]], list[tuple[Node, Node]]]:
    """Rows of nodes, edges over several levels broken into segments by bends."""
    rows: list[list[Node]] = [[] for _ in range(max(levels.values(), default=0) + 1)]
    for name in names:
        rows[levels[name]].append(name)
    segments: list[tuple[Node, Node]] = []
    for start, end in links:
        before: Node = start
        for level in range(levels[start] + 1, levels[end]):
            bend: Node = (start, end, level)
            rows[level].append(bend)
            segments.append((before, bend))
            before = bend
        segments.append((before, end))
    return rows, segments


def _order(rows: list[list[Node]], segments: Sequence[tuple[Node, Node]]) -> None:
    above: dict[Node, list[Node]] = {}
    below: dict[Node, list[Node]] = {}
    for upper, lower in segments:
        above.setdefault(lower, []).append(upper)
        below.setdefault(upper, []).append(lower)
    for sweep in range(SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        for row in rows if downwards else rows[::-1]:
            place = {
                node: index / max(1, len(other) - 1) if len(other) > 1 else 0.5
                for other in rows
                for index, node in enumerate(other)
            }
            row.sort(
                key=lambda node: (
                    sum(place[n] for n in neighbours[node]) / len(neighbours[node])
                    if node in neighbours
                    else place[node]
                )
            )


def _places(rows: Sequence[Sequence[Node]]) -> tuple[dict[Node, tuple[float, float]], float]:
    def wide(node: Node) -> float:
        return BOX_WIDTH if isinstance(node, str) else DUMMY_WIDTH

    widths = [sum(wide(node) for node in row) + GAP_X * (len(row) - 1) for row in rows]
    total = max(widths, default=0.0) + 2 * MARGIN
    places: dict[Node, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        x = (total - widths[level]) / 2
        y = MARGIN + BOX_HEIGHT / 2 + level * (BOX_HEIGHT + GAP_Y)
        for node in row:
            places[node] = (x + wide(node) / 2, y)
            x += wide(node) + GAP_X
    return places, total


def _edge(upper: Node, lower: Node, places: Mapping[Node, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = places[upper], places[lower]
    # Bends are passed straight through, boxes are left and entered at their edges.
    top, bottom = y1 + BOX_HEIGHT / 2, y2 - BOX_HEIGHT / 2
    middle = (top + bottom) / 2
    path = f"M{x1:.1f} {y1:.1f}V{top:.1f}" if not isinstance(upper, str) else f"M{x1:.1f} {top:.1f}"
    path += f"C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {bottom:.1f}"
    if not isinstance(lower, str):
        return f'<path d="{path}V{y2:.1f}" fill="none" stroke="#8899a6"/>'
    left, right, base = f"{x2 - 3.5:.1f}", f"{x2 + 3.5:.1f}", f"{bottom - 6:.1f}"
    arrow = f"M{left} {base}L{x2:.1f} {bottom:.1f}L{right} {base}z"
    return (
        f'<path d="{path}" fill="none" stroke="#8899a6"/>'
        f'<path d="{arrow}" fill="#8899a6" stroke="none"/>'
    )
