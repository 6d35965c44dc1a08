"""Writes the study's JSON schema and reference page from the typed model.

python -m layersight.reference          # from the root of the repository
python -m layersight.reference --check  # fails if the files on disk are not up to date
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from layersight.study import Study
from layersight.tuning import methods, recipes

SCHEMA = Path("config/study.schema.json")
PAGE = Path("docs/study.md")


def schema_text() -> str:
    """Return the JSON schema of a study file: presets add keys, and make required ones optional."""
    schema = Study.model_json_schema()
    preset = {
        "enum": list(recipes.RECIPES),
        "description": "A published recipe, see docs/study.md.",
    }
    length = {
        "epochs": {"exclusiveMinimum": 0, "type": "number"},
        "rows": {"exclusiveMinimum": 0, "type": "integer"},
    }
    for name, more in (("Optimisation", length), ("StageOne", length), ("Variant", {})):
        definition = schema["$defs"][name]
        definition["properties"] |= {"preset": preset, **more}
        definition.pop("required", None)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def page_text() -> str:
    """Return the reference page in Markdown."""
    parts = [
        "# The study file",
        "",
        "Generated from `layersight.study` by `make docs`; do not edit. A study is one YAML file "
        "in `config/studies/`; unknown keys, wrong types and impossible values are refused before "
        "any job runs. `extends: <study>` starts from another study of the same folder; "
        "`--config study=<name> <key>=<value>` merges further values over the file for one run.",
        "",
    ]
    models: list[type[BaseModel]] = [Study]
    for model in models:
        for field in model.model_fields.values():
            models += [found for found in _models(field.annotation) if found not in models]
    for model in models:
        parts += _section(model, model.__name__)
    parts += ["## Methods", "", "What `options` of a variant may hold, by `method`.", ""]
    for name in methods.names():
        parts += _section(methods.method(name).Options, f"method: {name}", level=3)
    return "\n".join([*parts, *_recipes()]).rstrip() + "\n"


def _recipes() -> list[str]:
    lines = [
        "## Presets",
        "",
        "`preset: <name>` in `align`, in `tuning` or in a variant fills the keys that the study "
        "leaves out there with those of a published recipe; what the study says or inherits wins. "
        "`steps` may be given as `rows`, the number of conversations, and `epochs`: steps = rows · "
        "epochs / batch_size, rounded up; `steps: null` takes inherited steps away. A variant that "
        "names no method gets the first one below.",
        "",
    ]
    for name, recipe in recipes.RECIPES.items():
        lines += [f"### {name}", "", f"{recipe.source}.", "", "| in | values |", "|---|---|"]
        for place, values in (("`align`", recipe.align), ("`tuning`", recipe.tuning)):
            if values is not None:
                lines.append(f"| {place} | {_values(values)} |")
        for method, values in recipe.methods.items():
            lines.append(f"| a variant with `method: {method}` | {_values(values)} |")
        lines.append("")
    return lines


def _values(values: recipes.Values) -> str:
    return ", ".join(f"`{key}: {_yaml(value)}`" for key, value in values.items() if value != {})


def _yaml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def _section(model: type[BaseModel], title: str, level: int = 2) -> list[str]:
    lines = [f"{'#' * level} {title}", "", (model.__doc__ or "").strip(), ""]
    if not model.model_fields:
        return lines
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split())
        lines.append(
            f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {meaning} |"
        )
    return [*lines, ""]


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    value = field.default
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{json.dumps(value)}`"


def _type(field: FieldInfo) -> str:
    text = _name(field.annotation)
    limits = [
        f"{sign} {getattr(item, attribute)}"
        for item in field.metadata
        for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if getattr(item, attribute, None) is not None
    ]
    return text + (f", {', '.join(limits)}" if limits else "")


def _name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is NoneType:
        return "null"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_name(argument) for argument in arguments)
    if origin is list:
        return f"list of {_name(arguments[0])}"
    if origin is dict:
        return f"mapping of {_name(arguments[0])} to {_name(arguments[1])}"
    if origin is tuple:
        return f"[{', '.join(_name(argument) for argument in arguments)}]"
    if hasattr(annotation, "__metadata__"):
        return _name(annotation.__origin__)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return {"str": "text", "int": "integer", "float": "number", "bool": "yes/no"}.get(
        getattr(annotation, "__name__", ""), "anything"
    )


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def main() -> None:
    """Write both files, or compare them with what is on disk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    check = parser.parse_args().check
    for path, text in ((SCHEMA, schema_text()), (PAGE, page_text())):
        if check:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                sys.exit(f"{path} is out of date: run `make docs`")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
