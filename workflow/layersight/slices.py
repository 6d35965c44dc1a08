"""The slice of a study that a step reads: all that its job is given.

A slice is plain data that Snakemake compares between runs, so a step reruns when, and only when,
something that it can read has changed. Reading anything else raises an `AttributeError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter

from layersight.study import Study

MACHINE = ("assets", "compute", "quota", "geometry.memory_mb", "geometry.device")
"""Where and on what a study runs: no matter of what it finds."""

ESTIMATES = frozenset({"text_tokens", "megabytes", "about"})
"""Keys of data from elsewhere that predict what it takes and tell people where it lies."""


def findings() -> list[str]:
    """Return the keys of a study, but for those of `MACHINE`, as `take` reads them."""
    parts = {path.split(".")[0] for path in MACHINE if "." in path}
    keys: list[str] = []
    for key, field in Study.model_fields.items():
        if key in parts:
            inner = cast(type[BaseModel], field.annotation).model_fields
            keys += [f"{key}.{name}" for name in inner]
        else:
            keys.append(key)
    return [key for key in keys if key not in MACHINE]


def take(study: Study, *paths: str, estimates: bool = False) -> dict[str, Any]:
    """Return the named parts of a study as nested plain data.

    Args:
        study: the whole study.
        paths: dotted keys such as `seed`, `align`, `tuning.steps` or `variants.full`.
        estimates: whether the keys of `ESTIMATES` go with the data of the training stages and
            with question sets.

    Raises:
        KeyError: a path that the study does not have.
    """
    whole = study.model_dump(mode="json")
    if not estimates:
        for stage in ("align", "tuning"):
            _leave_out_estimates(whole.get(stage, {}).get("data"))
        for questions in whole.get("questions", {}).values():
            _leave_out_estimates(questions)
    result: dict[str, Any] = {}
    for path in paths:
        source: Any = whole
        target = result
        # A variant's or a question set's name may hold dots: it is the whole rest of its path.
        named = path.startswith(("variants.", "questions."))
        parts = path.split(".", 1) if named else path.split(".")
        for part in parts[:-1]:
            source = source[part]
            target = target.setdefault(part, {})
        target[parts[-1]] = source[parts[-1]]
    return result


def _leave_out_estimates(data: dict[str, Any] | None) -> None:
    if data is None:
        return
    pictures = data["pictures"]
    parts = [data]
    if isinstance(pictures, dict):
        # Those of a question set lie in one folder.
        one = isinstance(data.get("form"), str)
        parts += [pictures] if one else pictures.values()
    for part in parts:
        for key in ESTIMATES & part.keys():
            del part[key]


def restore(data: Mapping[str, Any]) -> Study:
    """Return a study that has only the parts of a slice."""
    return cast(Study, _partial(Study, data))


def _partial(model: type[BaseModel], data: Mapping[str, Any]) -> BaseModel:
    values: dict[str, Any] = {}
    names = {field.alias: name for name, field in model.model_fields.items() if field.alias}
    for written, value in data.items():
        name = names.get(written, written)
        field = model.model_fields[name]
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            values[name] = _partial(annotation, value)
        else:
            adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, annotation))
            values[name] = adapter.validate_json(json.dumps(value))
    partial = model.__new__(model)
    # Not `model_construct`: it would fill absent parts with their defaults.
    object.__setattr__(partial, "__dict__", values)
    object.__setattr__(partial, "__pydantic_fields_set__", set(values))
    object.__setattr__(partial, "__pydantic_extra__", None)
    object.__setattr__(partial, "__pydantic_private__", None)
    return partial
