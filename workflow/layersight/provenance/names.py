"""The names that a definition reads, as far as they are not its own variables."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from layersight.provenance.syntax import (
    Function,
    Import,
    Scope,
    arguments,
    bindings,
    children,
    run_by,
)

Chain = tuple[str, ...]  # a.b.c as written
Read = tuple[str, str | None]  # attribute; the field or `@class` it is read from, if known


class Names:
    """Collects the dotted names that a definition reads, without its own variables.

    Args:
        package: that relative imports start from.

    Attributes:
        found: names, with what they are imported from where the definition does that itself.
        imported: all that the definition imports itself.
        attributes: names after a dot, and what they are read from.
    """

    def __init__(self, package: str) -> None:
        self.found: list[tuple[Chain, list[Import] | None]] = []
        self.imported: list[Import] = []
        self.attributes: set[Read] = set()
        self._package = package
        self._origins: list[dict[str, str | None]] = []
        self._scopes: list[Scope] = []

    def visit(self, node: ast.AST) -> None:
        """Read one node and all below it."""
        method = _VISITS.get(node.__class__)
        if method is not None:
            method(self, node)
        else:
            self._below(node)

    def visit_annotation(self, node: ast.expr) -> None:
        """Read an annotation: it does nothing, but names the classes whose methods are called."""
        for item in ast.walk(node):
            if isinstance(item, ast.Constant) and isinstance(item.value, str):
                try:
                    self.visit(ast.parse(item.value, mode="eval").body)
                except SyntaxError:
                    continue
        self.visit(node)

    def _below(self, node: ast.AST) -> None:
        for child in children(node):
            self.visit(child)

    def _nothing(self, node: ast.AST) -> None:
        return

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imported += run_by(node, self._package)

    def _function(self, node: Function) -> None:
        for outer in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if outer is not None:
                self.visit(outer)
        for annotation in [*(one.annotation for one in arguments(node.args)), node.returns]:
            if annotation is not None:
                self.visit_annotation(annotation)
        scope: Scope = dict.fromkeys(one.arg for one in arguments(node.args))
        own, stored = bindings(node.body, self._package)
        self._scopes.append(scope | own)
        self._origins.append(_origins(node, stored))
        for statement in node.body:
            self.visit(statement)
        self._origins.pop()
        self._scopes.pop()

    def _lambda(self, node: ast.Lambda) -> None:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._scopes.append(dict.fromkeys(one.arg for one in arguments(node.args)))
        self._origins.append({})
        self.visit(node.body)
        self._origins.pop()
        self._scopes.pop()

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    ) -> None:
        # The first source is read outside: `[f for f in f]` is allowed.
        self.visit(node.generators[0].iter)
        targets = [item for part in node.generators for item in ast.walk(part.target)]
        bound = {item.id for item in targets if isinstance(item, ast.Name)}
        self._scopes.append(dict.fromkeys(bound))
        self._origins.append({})
        self._below(node)
        self._origins.pop()
        self._scopes.pop()

    def _annotated(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        self.visit_annotation(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def _call(self, node: ast.Call) -> None:
        # `getattr(x, "name")` reads an attribute, too.
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1:
            name = node.args[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                self.attributes.add((name.value, None))
        self._below(node)

    def _name(self, node: ast.Name) -> None:
        self._add((node.id,))

    def _attribute(self, node: ast.Attribute) -> None:
        parts = [node.attr]
        value = node.value
        while isinstance(value, ast.Attribute):
            parts.append(value.attr)
            value = value.value
        self.attributes.update(zip(parts, [*parts[1:], self._origin(value)], strict=True))
        if isinstance(value, ast.Name):
            self._add((value.id, *reversed(parts)))
        else:
            self.visit(value)

    def _origin(self, value: ast.expr) -> str | None:
        while isinstance(value, ast.Subscript):
            value = value.value
        if isinstance(value, ast.Attribute):
            return value.attr
        if isinstance(value, ast.Name):
            for scope, origins in zip(reversed(self._scopes), reversed(self._origins), strict=True):
                if value.id in scope:
                    return origins.get(value.id)
        return None

    def _add(self, chain: Chain) -> None:
        for scope in reversed(self._scopes):
            if chain[0] in scope:
                sources = scope[chain[0]]
                if sources:
                    self.found.append((chain, sources))
                return
        self.found.append((chain, None))


_VISITS: dict[type[ast.AST], Callable[[Names, Any], None]] = {
    ast.AnnAssign: Names._annotated,
    ast.AsyncFunctionDef: Names._function,
    ast.Attribute: Names._attribute,
    ast.Call: Names._call,
    ast.Constant: Names._nothing,
    ast.DictComp: Names._comprehension,
    ast.FunctionDef: Names._function,
    ast.GeneratorExp: Names._comprehension,
    ast.Import: Names._import,
    ast.ImportFrom: Names._import,
    ast.Lambda: Names._lambda,
    ast.ListComp: Names._comprehension,
    ast.Load: Names._nothing,
    ast.Name: Names._name,
    ast.SetComp: Names._comprehension,
    ast.Store: Names._nothing,
}


def _origins(node: Function, stored: Mapping[str, int]) -> dict[str, str | None]:
    """What variables of a function hold: a field's name, or `@class`; None where unclear.

    Args:
        node: the function.
        stored: variable to how often it is set.
    """
    origins: dict[str, str | None] = {}
    for one in arguments(node.args):
        if isinstance(one.annotation, ast.Name):
            origins[one.arg] = f"@{one.annotation.id}"
        elif one.arg == "self":
            origins[one.arg] = "@self"
    once: dict[str, str | None] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            value = statement.value
            while isinstance(value, ast.Subscript):
                value = value.value
            if isinstance(value, ast.Attribute):
                once[statement.targets[0].id] = value.attr
    for name, times in stored.items():
        origins[name] = once.get(name) if times == 1 else None
    return origins
