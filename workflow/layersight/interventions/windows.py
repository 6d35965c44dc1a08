"""The windows of blocks that a patching sweep visits."""

from __future__ import annotations

from collections.abc import Iterator


def windows(kind: str, layers: int, stride: int, width: int | None) -> Iterator[tuple[int, int]]:
    """Yield the windows [start, stop) of a sweep over `layers` blocks.

    Cumulative: [0, stride), [0, 2 stride), ... and always [0, layers). Sliding: [s, s + width) for
    s = 0, stride, 2 stride, ... as long as the window lies inside the model; a last window at the
    end is added if the stride leaves blocks uncovered.
    """
    if kind == "cumulative":
        stops = [*range(stride, layers, stride), layers]
        yield from ((0, stop) for stop in stops)
        return
    if width is None:
        raise ValueError("a sliding sweep needs a width")
    starts = list(range(0, layers - width + 1, stride))
    if starts[-1] + width < layers:
        starts.append(layers - width)
    yield from ((start, start + width) for start in starts)
