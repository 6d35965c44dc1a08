"""Python files as this library reads them: what they define and import, and their bare syntax."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

Import = tuple[str, str | None]  # module, name in it
Scope = dict[str, list[Import] | None]  # None: a variable
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Module:
    """One parsed file: what it defines, what it imports, and what else it does when imported."""

    package: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, list[Import]] = field(default_factory=dict)
    run: list[Import] = field(default_factory=list)
    stars: list[str] = field(default_factory=list)
    effects: list[ast.stmt] = field(default_factory=list)


def children(node: Any) -> list[ast.AST]:
    """Return the nodes right below one, without what does nothing."""
    found: list[ast.AST] = []
    for name in _fields(node.__class__):
        value = getattr(node, name, None)
        if value.__class__ is list:
            found += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def arguments(arguments: ast.arguments) -> list[ast.arg]:
    """Return all arguments of a function."""
    more = [one for one in (arguments.vararg, arguments.kwarg) if one]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *more]


def bindings(body: list[ast.stmt], package: str) -> tuple[Scope, Counter[str]]:
    """Names that a function's own body binds, and how often it sets them.

    Functions and comprehensions in it keep theirs.
    """
    bound: Counter[str] = Counter()
    elsewhere: set[str] = set()
    imports: dict[str, list[Import]] = {}
    queue: list[ast.AST] = list(body)
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Name):
            if node.ctx.__class__ is not ast.Load:
                bound[node.id] += 1
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound[node.name] += 1
        elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            walruses = [one.target for one in ast.walk(node) if isinstance(one, ast.NamedExpr)]
            bound.update(one.id for one in walruses)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, source in imported(node, package):
                imports.setdefault(name, []).append(source)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            elsewhere |= set(node.names)
        elif not isinstance(node, (ast.Lambda, ast.Constant)):
            if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
                bound[node.name] += 1
            elif isinstance(node, ast.MatchMapping) and node.rest:
                bound[node.rest] += 1
            queue += children(node)
    scope = {name: imports.get(name) for name in (*bound, *imports) if name not in elsewhere}
    return scope, bound


def parse(file: Path, package: str) -> Module:
    """Read a file; relative imports start from `package`."""
    module = Module(package)
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    _sort_out(tree.body, module)
    return module


def _sort_out(statements: Iterable[ast.stmt], module: Module) -> None:
    for node in statements:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _add_import(node, module)
            module.run += run_by(node, module.package)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            module.definitions.setdefault(node.name, []).append(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            names = _assigned(node)
            for name in names:
                module.definitions.setdefault(name, []).append(node)
            if not names:
                module.effects.append(node)
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            # Nothing of it runs; annotations speak of it.
            for one in ast.walk(ast.Module(node.body, [])):
                if isinstance(one, (ast.Import, ast.ImportFrom)):
                    _add_import(one, module)
            _sort_out(node.orelse, module)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            module.effects.append(node)
            # Names may be imported under a condition, from one place or the other.
            for name, sources in bindings([node], module.package)[0].items():
                if name == "*":
                    module.stars += [source for source, _ in sources or ()]
                else:
                    module.imports.setdefault(name, []).extend(sources or ())


def _add_import(node: ast.Import | ast.ImportFrom, module: Module) -> None:
    for name, source in imported(node, module.package):
        if name == "*":
            module.stars.append(source[0])
        else:
            module.imports.setdefault(name, []).append(source)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def imported(node: ast.Import | ast.ImportFrom, package: str) -> list[tuple[str, Import]]:
    """Return the names that an import binds, with module and name inside it."""
    if isinstance(node, ast.ImportFrom):
        source = _source(node, package)
        return [(alias.asname or alias.name, (source, alias.name)) for alias in node.names]
    return [
        (alias.asname, (alias.name, None))
        if alias.asname
        else (alias.name.split(".")[0], (alias.name.split(".")[0], None))
        for alias in node.names
    ]


def run_by(node: ast.Import | ast.ImportFrom, package: str) -> list[Import]:
    """Return the modules that an import runs; a name may be a module or something in one."""
    if isinstance(node, ast.ImportFrom):
        source = _source(node, package)
        return [(source, alias.name) for alias in node.names]
    return [(alias.name, None) for alias in node.names]


def _source(node: ast.ImportFrom, package: str) -> str:
    above = package.rsplit(".", node.level - 1)[0] if node.level else ""
    return ".".join(part for part in (above, node.module or "") if part)


def _assigned(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names: list[str] = []
    for target in targets:
        items = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        if not all(isinstance(item, ast.Name) for item in items):
            return []
        names += [item.id for item in items if isinstance(item, ast.Name)]
    return names


def properties(node: ast.stmt) -> list[Function]:
    """Return what a settings class computes; its validators have had their say before."""
    return [
        item
        for item in (node.body if isinstance(node, ast.ClassDef) else [])
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not any("validator" in ast.dump(one) for one in item.decorator_list)
    ]


def write(node: Any, text: list[str], in_class: bool = False) -> None:
    """Write a syntax tree without what does nothing.

    Left out are positions, docstrings, imports (followed elsewhere), and annotations other than
    those in the body of a class, where they make fields.
    """
    kind = node.__class__
    if kind is ast.Name:
        text.append(node.id)
        return
    if kind is ast.Constant:
        text.append(f"{node.value.__class__.__name__} {node.value!r}")
        return
    if kind is ast.arg:
        text.append(node.arg)
        return
    if kind in _IMPORTS or (kind is ast.Expr and node.value.__class__ is ast.Constant):
        return
    if kind is ast.AnnAssign and not in_class:
        if node.value is None:
            return
        node = ast.Assign([node.target], node.value)
        kind = ast.Assign
    text.append(f"({kind.__name__}")
    for name in _fields(kind):
        value = getattr(node, name, None)
        if value.__class__ is list:
            text.append("[")
            for item in value:
                if isinstance(item, ast.AST):
                    write(item, text, kind is ast.ClassDef)
                else:
                    text.append(str(item))
            text.append("]")
        elif isinstance(value, ast.AST):
            write(value, text)
        else:
            text.append(str(value))
    text.append(")")


_IMPORTS = frozenset({ast.Import, ast.ImportFrom})
_UNWRITTEN = frozenset({"ctx", "kind", "returns", "simple", "type_comment", "type_params"})


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(name for name in kind._fields if name not in _UNWRITTEN)
