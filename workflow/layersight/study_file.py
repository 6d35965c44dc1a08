"""Reading a study file: inheritance, overrides, presets, and one message for every mistake."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from layersight.errors import StudyError
from layersight.models import backbones, released
from layersight.study import Study
from layersight.tuning import recipes


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number (YAML 1.1 reads it as text) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            where = f"{key_node.start_mark.name}: line {key_node.start_mark.line + 1}"
            if not isinstance(key, str):
                written = getattr(key_node, "value", key)
                given = f"{written} is read as {key!r}; " if isinstance(written, str) else ""
                raise StudyError(f"{where}: a key must be text: {given}write it in quotes")
            if key in seen:
                raise StudyError(f"{where}: the key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


# What the YAML reader raises: besides its own errors those of Python, for a date of month 13 or a
# number without digits, and for brackets nested a thousand deep.
_UNREADABLE = (
    yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
    RecursionError,
)  # fmt: skip
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_PARTS = {"language_model", "vision_encoder", "data", "released", "options"}
"""Where another `source` has other keys: it replaces what was inherited."""
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_SHOWN = 80
_MOST_VALUES = 100_000


def load_study(path: Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read a study file, merge overrides into it and check the result.

    A file may start from another one of the same folder with `extends: <name>`; mappings merge key
    by key, everything else is replaced, and so is a language model or vision encoder with another
    `source`, and an `align` that takes a released connector. A null given for a variant takes the
    variant away. After all that, presets fill the keys that are still left out
    (`layersight.tuning.recipes`), and checkpoints their family and sizes
    (`layersight.models.backbones`).

    Args:
        path: YAML file.
        overrides: nested mapping merged over the file, as `--config` gives it.

    Raises:
        StudyError: the file is missing or unreadable, or a key is unknown or has a wrong value;
            the message names the file and every offending key.
    """
    where = f"{path}" + (" with the overrides of --config" if overrides else "")
    try:
        data = _read(path)
        if overrides:
            data = _merge(data, {key: _typed(item) for key, item in overrides.items()})
        _check_plain(where, data)
    except RecursionError:
        raise StudyError(f"{where}: a value contains itself, or is nested too deeply") from None
    variants = data.get("variants")
    if isinstance(variants, dict):
        data["variants"] = {name: value for name, value in variants.items() if value is not None}
    try:
        data = backbones.resolve(recipes.resolve(data))
    except ValueError as error:
        raise StudyError(f"{where}:\n  {error}") from None
    try:
        study = Study.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise StudyError(_explain(where, data, error)) from None
    if study.name != path.stem:
        raise StudyError(
            f"{path}: name: is {study.name!r}, but a study is named as its file: {path.stem!r}"
        )
    try:
        released.check(study)
    except ValueError as error:
        raise StudyError(f"{where}:\n  {error}") from None
    return study


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in seen:
        raise StudyError(f"{path}: extends itself, through {' -> '.join(p.stem for p in seen)}")
    try:
        found = path.is_file()
    except (OSError, ValueError):  # no file can have this name
        found = False
    if not found:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        by = f"{seen[-1]}: extends: " if seen else ""
        raise StudyError(f"{by}{path}: no such study file; studies here: {known}")
    try:
        with path.open(encoding="utf-8") as file:
            data = yaml.load(file, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except OSError as error:
        raise StudyError(f"{path}: not readable: {error.strerror}") from None
    except _UNREADABLE as error:
        raise StudyError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a study file is a mapping of keys to values")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str) or not _NAME.fullmatch(parent):
        raise StudyError(
            f"{path}: extends: must be the name of a study of this folder, not {_shown(parent)}"
        )
    return _merge(_read(path.parent / f"{parent}.yaml", (*seen, path)), data)


def _typed(value: Any) -> Any:
    """Read the texts inside mappings and lists as YAML would.

    Snakemake reads `--config steps=3` as a number, but `--config align='{steps: 3}'` as a mapping
    to the text "3".
    """
    if isinstance(value, Mapping):
        return {key: _scalar(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_scalar(item) for item in value]
    return value


def _scalar(item: Any) -> Any:
    if not isinstance(item, str):
        return _typed(item)
    try:
        read = yaml.load(item, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except StudyError as error:
        raise StudyError(f"--config: {str(error).partition(': ')[2]}") from None
    except _UNREADABLE:
        return item
    return item if isinstance(read, (Mapping, list)) else read


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        if (
            isinstance(value, Mapping)
            and isinstance(inherited, Mapping)
            and not _replaces(key, value, inherited)
        ):
            merged[key] = _merge(inherited, value)
        else:
            merged[key] = value
    return merged


def _replaces(key: str, value: Mapping[str, Any], inherited: Mapping[str, Any]) -> bool:
    """Return whether a part is another one than the inherited, and has other keys."""
    if key in _PARTS:
        return value.get("source") not in (None, inherited.get("source"))
    if "form" in inherited:  # a set of questions
        return value.get("source") not in (None, inherited.get("source"))
    if key == "align":
        return (value.get("released") is None) != (inherited.get("released") is None)
    return False


def _check_plain(where: str, data: Mapping[str, Any]) -> None:
    """Refuse what JSON, and so the study model, has no word for."""
    for count, (key, value) in enumerate(_values(data, "")):
        if count > _MOST_VALUES:
            raise StudyError(f"{where}: has more than {_MOST_VALUES} values; is an alias at fault?")
        problem = _why_not_plain(value)
        if problem:
            raise StudyError(f"{where}:\n  {key}: {problem}")


def _values(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield all names and scalars with the dotted key of each."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            inner = f"{key}.{name}" if key else f"{name}"
            yield inner, name
            yield from _values(item, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _values(item, f"{key}.{index}")
    else:
        yield key, value


def _why_not_plain(value: Any) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value}"
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return "is too large a number; the largest is 2^63 - 1"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "holds half of a surrogate pair, which is no character"
    elif value is not None and not isinstance(value, (bool, int, float)):
        return f"must be text, a number, a list or a mapping, not {_shown(value)}; quote a text"
    return None


def _explain(where: str, data: Mapping[str, Any], error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = _key(data, problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key" + _suggestion(problem["loc"])
        elif problem["type"] == "missing":
            message = "required, but not given"
        elif problem["type"] != "value_error":
            message += f", not {_shown(problem['input'])}"
        # A message about several keys together names them itself.
        lines.append(f"  {key}: {message}" if key else f"  {message}")
    return f"{where}:\n" + "\n".join(lines)


def _key(data: Any, location: tuple[int | str, ...]) -> str:
    """Return a dotted key as the file has it, without pydantic's names of alternatives."""
    parts = []
    for part in location:
        if part == "[key]":
            continue
        if isinstance(data, Mapping) and part not in data and part == data.get("source"):
            continue
        parts.append(str(part))
        try:
            data = data[part]
        except (LookupError, TypeError):
            data = None
    return ".".join(parts)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _suggestion(location: tuple[int | str, ...]) -> str:
    schema = json.dumps(Study.model_json_schema())
    known = sorted({*re.findall(r'"([a-z_0-9]+)": \{', schema), *recipes.KEYS})
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
