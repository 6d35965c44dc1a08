"""Which jobs must run, and why: what each was made from, against what it would be made from now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from layersight.provenance.digests import Digests
from layersight.provenance.records import Record, Step, read_record

_SHOWN = 4


@dataclass
class Verdict:
    """Whether a job runs.

    Attributes:
        why: the reasons, for people; empty if the job need not run.
        changing: outputs that may come out different from what they are.
        missing: outputs that are not there.
    """

    why: list[str] = field(default_factory=list)
    changing: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)


def decide(
    steps: Sequence[Step], digests: Digests, *, wanted: frozenset[str] = frozenset()
) -> list[Verdict]:
    """Return a verdict for every step.

    A step runs if its settings, its code, the packages it imports, or the content of its inputs
    are not those of its record, if an output was changed on disk, or if an output is missing and
    something needs it. An output that is only made again is expected to come out the same, so
    that nothing behind it runs.

    Args:
        steps: every step after those that make its inputs.
        digests: of the files as they are.
        wanted: outputs that are asked for by name.
    """
    makers: dict[str, int] = {}
    for index, step in enumerate(steps):
        makers |= dict.fromkeys(step.outputs, index)
    records = [read_record(step.record) for step in steps]
    verdicts: list[Verdict] = []
    for step, record in zip(steps, records, strict=True):
        verdicts.append(_verdict(step, record, steps, records, verdicts, makers, digests))
    # A missing output is made again only if somebody needs it: the last step first.
    needed: dict[str, str] = dict.fromkeys(wanted, "it is asked for")
    for index in reversed(range(len(steps))):
        step, verdict = steps[index], verdicts[index]
        lost = sorted(verdict.missing & set(needed))
        if lost and not verdict.why:
            verdict.why.append(f"{lost[0]} is missing, and {needed[lost[0]]}")
        if verdict.why:
            for paths in step.inputs.values():
                for path in paths:
                    needed.setdefault(path, f"{step.name} needs it")
    return verdicts


def _verdict(
    step: Step,
    record: Record | None,
    steps: Sequence[Step],
    records: Sequence[Record | None],
    verdicts: Sequence[Verdict],
    makers: Mapping[str, int],
    digests: Digests,
) -> Verdict:
    verdict = Verdict()
    there = {path: digests.of(path) for path in step.outputs}
    verdict.missing = {path for path, digest in there.items() if digest is None}
    if record is None:
        made = [path for path, digest in there.items() if digest is not None]
        verdict.why.append(
            f"no record says what {made[0]} was made from" if made else "it has not run yet"
        )
        verdict.changing = set(step.outputs)
        return verdict
    verdict.why += _differences(record, step)
    own = bool(verdict.why)
    stale: dict[str, str] = {}  # input to reason
    for role, paths in step.inputs.items():
        before = record.inputs.get(role, {})
        for path in paths:
            maker = makers.get(path)
            if path not in before:
                stale[path] = f"{path} is a new input"
            elif maker is not None and path in verdicts[maker].changing:
                stale[path] = f"{steps[maker].name} runs again"
            else:
                now = digests.of(path)
                made_by = records[maker] if maker is not None else None
                if made_by is not None and maker is not None and verdicts[maker].why:
                    # Made again, and the same as before.
                    now = made_by.outputs.get(path, now)
                elif now is None and made_by is not None:
                    now = made_by.outputs.get(path)
                if now != before[path]:
                    stale[path] = f"the content of {path} changed"
        if role != step.parts:
            for path in sorted(set(before) - set(paths)):
                stale[path] = f"{path} is no longer an input"
        now_named = list(dict.fromkeys(paths))
        reordered = list(before) != now_named and set(before) == set(now_named)
        if reordered and role != step.parts:
            stale[role] = "the order of its inputs changed"
    for role in sorted(record.inputs.keys() - step.inputs.keys()):
        for path in sorted(record.inputs[role]):
            stale[path] = f"{path} is no longer an input"
    verdict.why += _first(list(dict.fromkeys(stale.values())), "more inputs differ")
    parts = set(step.inputs.get(step.parts, ())) if step.parts else set()
    common = own or any(path not in parts for path in stale)
    for output in step.outputs:
        mine = {path for paths in step.inputs_of(output).values() for path in paths}
        other = _other_part(record, step, output)
        if other:
            verdict.why.append(f"{output} was made from {other}")
        if common or other or output not in record.outputs or mine & set(stale):
            verdict.changing.add(output)
        elif there[output] is not None and there[output] != record.outputs[output]:
            verdict.why.append(f"{output} was changed on disk")
        if output not in record.outputs:
            verdict.why.append(f"{output} is new")
    return verdict


def _other_part(record: Record, step: Step, output: str) -> str | None:
    """Return the input that a part was made from, if it is another one now."""
    paths = list(record.inputs.get(step.parts, ())) if step.parts else []
    if len(paths) != len(record.outputs) or output not in record.outputs:
        return None
    before = paths[list(record.outputs).index(output)]
    return None if before in step.inputs_of(output).get(step.parts or "", ()) else before


def _differences(record: Record, step: Step) -> list[str]:
    """What differs between the record and now, by name: settings, then code, then packages."""
    settings = [
        f"{key}: {_value(record.settings, key)} -> {_value(step.settings, key)}"
        for key in _changed(record.settings, step.settings)
    ]
    code = [
        f"{name} changed"
        for name in _changed(record.definitions, step.code.definitions)
        if name in record.definitions and name in step.code.definitions
    ] or [
        # Only then: a function that calls others now is named by itself.
        f"{name} is {'new' if name in step.code.definitions else 'gone'}"
        for name in _changed(record.definitions, step.code.definitions)
    ]
    packages = [
        f"package {name}: {record.packages.get(name, 'not used')} -> "
        f"{step.code.packages.get(name, 'not used')}"
        for name in _changed(record.packages, step.code.packages)
    ]
    return [
        *_first(settings, "more keys changed"),
        *_first(code, "more definitions changed"),
        *_first(packages, "more packages changed"),
    ]


def _first(texts: list[str], rest: str) -> list[str]:
    more = [f"{len(texts) - _SHOWN} {rest}"] if len(texts) > _SHOWN else []
    return texts[:_SHOWN] + more


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key in sorted({*before, *now})
        if (key in before) != (key in now) or before[key] != now[key]
    ]


def _value(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return "not set"
    text = "null" if settings[key] is None else str(settings[key])
    return text if len(text) <= 60 else f"{text[:57]}..."
