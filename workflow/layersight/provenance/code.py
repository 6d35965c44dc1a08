"""The library code that a step runs: the definitions its script reaches, and a digest of each.

A definition is a function, a class or a constant at the top of a module. Starting from a script,
every name is followed through the imports of this library; what is reached is the import closure,
function by function. Comments, docstrings, type annotations of functions, layout and the order of
imports do not count. Calls through an object's attributes are not followed by name: the class of
the object is reached where it is made or named in an annotation.

What a module does besides defining names (calls, loops, conditional definitions) counts for
everybody who imports it. A decorator that only registers what it decorates is no such statement:
who finds things in a registry names its module in `also`.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from layersight.provenance.names import Chain, Names, Read
from layersight.provenance.packages import version_of
from layersight.provenance.syntax import Import, Module, parse, properties, write

LIBRARY = Path(__file__).parents[1]
NAME = LIBRARY.name
HARNESS = "running"
"""Module of what all scripts share: it says how jobs run, not what they compute."""
WITHOUT_INFLUENCE = frozenset(
    f"{NAME}.{module}"
    for module in (
        "errors",
        "interruption",
        "memory",
        "plan",
        "progress",
        "slices",
        "storage.manifest",
    )
)
"""Modules that only speak to people, or record what happened: results do not depend on them."""
SETTINGS = frozenset({f"{NAME}.study", f"{NAME}.strict"})
"""Modules whose classes hold settings: a step depends on values, which its slice holds, and on
those computed properties of a class that it reads."""
_EFFECTS = ""  # the name of a module's other statements
_WHOLE = "*"  # the name of all that a module defines or passes on
_Definition = tuple[str, str]  # module, name


@dataclass(frozen=True)
class Code:
    """What a step runs.

    Attributes:
        definitions: `module:name` to a digest of its normalised syntax tree. Names of other
            packages stand for themselves.
        packages: distributions outside the standard library that these definitions import, with
            their versions.
    """

    definitions: dict[str, str]
    packages: dict[str, str]

    @property
    def digest(self) -> str:
        """One digest of all definitions, 16 hexadecimal digits."""
        lines = [f"{name} {value}" for name, value in sorted(self.definitions.items())]
        return _sha("\n".join(lines))


@dataclass
class _References:
    """What a definition leads to."""

    inside: list[_Definition] = field(default_factory=list)
    outside: set[str] = field(default_factory=set)
    attributes: set[Read] = field(default_factory=set)
    properties: list[_Definition] = field(default_factory=list)


class CodeIndex:
    """Follows names through the library; parses every file at most once.

    Args:
        library: folder of the package.
    """

    def __init__(self, library: Path = LIBRARY) -> None:
        self._library = library
        self._modules: dict[str, Module | None] = {}
        self._references: dict[_Definition, _References] = {}
        self._digests: dict[_Definition, str] = {}
        self._codes: dict[tuple[Path, tuple[str, ...]], Code] = {}
        self._owners: dict[str, set[str]] = {}

    def code(self, script: Path, also: Iterable[str] = ()) -> Code:
        """Return what a script runs.

        Args:
            script: a Python file that imports from the library.
            also: modules that the script's settings choose by name, reached as a whole, or
                `module:name`, one definition of one, if it has that; or
                `file:<folder>`, files of the library that are no Python.

        Raises:
            OSError, SyntaxError: a file cannot be read or parsed.
            ModuleNotFoundError: the library has no module of a name in `also`.
        """
        asked = (script, tuple(also))
        if asked not in self._codes:
            module = f"<{script.name}>"
            if module not in self._modules:
                parsed = parse(script, "")
                # A script is run from top to bottom: all of it counts.
                parsed.effects = [s for group in parsed.definitions.values() for s in group] + [
                    *parsed.effects
                ]
                parsed.definitions = {}
                self._modules[module] = parsed
            start = [(module, _EFFECTS)]
            for name in asked[1]:
                module, _, one = name.partition(":")
                if module != "file":
                    chosen = self._module(module)
                    if chosen is None:
                        raise ModuleNotFoundError(f"the library has no module {name}", name=name)
                    if not one or one in chosen.definitions:
                        start.append((module, one or _WHOLE))
            files = self._files(asked[1])
            words = {word for text in files.values() for word in re.findall(r"\w+", text)}
            reached = self._closure(start, words)
            read = {name: _sha(text) for name, text in files.items()}
            self._codes[asked] = Code(reached.definitions | read, reached.packages)
        return self._codes[asked]

    def _files(self, names: Iterable[str]) -> dict[str, str]:
        """The other files that a script reads from the library."""
        folders = [name.removeprefix("file:") for name in names if name.startswith("file:")]
        return {
            str(path.relative_to(self._library)): path.read_text(encoding="utf-8")
            for folder in folders
            for path in sorted((self._library / folder).rglob("*"))
            if path.is_file()
        }

    def _closure(self, start: list[_Definition], attributes: set[str]) -> Code:
        """Follow names from `start`; `attributes` are read from elsewhere, such as templates."""
        seen: set[_Definition] = set()
        outside: set[str] = set()
        read: set[Read] = {(name, None) for name in attributes}
        waiting: set[_Definition] = set()
        queue = list(start)
        while queue:
            while queue:
                item = queue.pop()
                if item in seen or item[0] in WITHOUT_INFLUENCE:
                    continue
                seen.add(item)
                found = self._references_of(item)
                queue += found.inside
                outside |= found.outside
                waiting |= set(found.properties)
                read |= found.attributes
            queue = [one for one in waiting - seen if self._is_read(one, read)]
        definitions = {
            f"{module}:{name}" if name else module: self._digest((module, name))
            for module, name in seen
        }
        definitions = {name: value for name, value in definitions.items() if value}
        definitions |= {name: "" for name in outside}
        versions = {version_of(name.split(":")[0].split(".")[0]) for name in outside}
        return Code(definitions, dict(sorted(item for item in versions if item)))

    def _module(self, name: str) -> Module | None:
        """Return a parsed module of the library; None if there is none of that name."""
        if name not in self._modules:
            path = self._library.joinpath(*name.split(".")[1:])
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            package = name if path.is_dir() else name.rpartition(".")[0]
            inside = name.split(".", maxsplit=1)[0] == NAME and file.is_file()
            self._modules[name] = parse(file, package) if inside else None
        return self._modules[name]

    def _nodes(self, item: _Definition) -> list[ast.stmt]:
        module, name = item
        parsed = self._modules[module]
        if parsed is None or name == _WHOLE:
            return []
        if name == _EFFECTS:
            return parsed.effects
        if module not in SETTINGS:
            return parsed.definitions[name]
        top, _, member = name.partition(".")
        nodes = parsed.definitions[top]
        if member:
            return [one for node in nodes for one in properties(node) if one.name == member]
        return [node for node in nodes if not isinstance(node, ast.ClassDef)]

    def _digest(self, item: _Definition) -> str:
        if item not in self._digests:
            text: list[str] = []
            for node in self._nodes(item):
                write(node, text)
            self._digests[item] = _sha("\n".join(text)) if text else ""
        return self._digests[item]

    def _references_of(self, item: _Definition) -> _References:
        if item not in self._references:
            module, name = item
            parsed = self._modules[module]
            found = _References()
            if parsed is not None:
                if name == _EFFECTS:
                    self._run_imports(module, parsed, found)
                else:
                    found.inside.append((module, _EFFECTS))
                if name == _WHOLE:
                    self._add_whole(module, parsed, found)
                elif module in SETTINGS and name != _EFFECTS:
                    self._add_settings(module, parsed, name, found)
                names = Names(parsed.package)
                for node in self._nodes(item):
                    names.visit(node)
                for chain, sources in names.found:
                    self._resolve(module, parsed, chain, sources, found)
                for source in names.imported:
                    self._run(source, found)
                found.attributes |= {
                    (attribute, None if owner == "@self" else owner)
                    for attribute, owner in names.attributes
                    if owner != "@self" or module in SETTINGS
                }
            self._references[item] = found
        return self._references[item]

    def _run_imports(self, module: str, parsed: Module, found: _References) -> None:
        """An imported module is run, and so are the packages around it."""
        package = module.rpartition(".")[0]
        if self._module(package) is not None:
            found.inside.append((package, _EFFECTS))
        for source in parsed.run:
            self._run(source, found)
        for star in parsed.stars:
            if self._module(star) is not None:
                found.inside.append((star, _WHOLE))
            else:
                _add_outside(star, (), found)

    def _run(self, source: Import, found: _References) -> None:
        module, name = source
        for one in (module, f"{module}.{name}" if name else module):
            if self._module(one) is not None:
                found.inside.append((one, _EFFECTS))

    def _add_whole(self, module: str, parsed: Module, found: _References) -> None:
        found.inside += [(module, name) for name in parsed.definitions]
        # A name that is imported and not used is passed on.
        used: set[str] = set()
        for nodes in (*parsed.definitions.values(), parsed.effects):
            names = Names(parsed.package)
            for node in nodes:
                names.visit(node)
            used |= {chain[0] for chain, _ in names.found}
        for name in parsed.imports.keys() - used:
            self._resolve(module, parsed, (name,), None, found)

    def _add_settings(self, module: str, parsed: Module, name: str, found: _References) -> None:
        """Follow a settings class to the classes of its fields, and to its computed properties."""
        for node in parsed.definitions[name.partition(".")[0]]:
            if not isinstance(node, ast.ClassDef) or "." in name:
                continue
            found.inside += self._settings_in([*node.bases, *node.body], module, parsed, set())
            for member in properties(node):
                definition = (module, f"{node.name}.{member.name}")
                if member.name.startswith("__"):
                    found.inside.append(definition)
                else:
                    found.properties.append(definition)

    def _settings_in(
        self, nodes: Iterable[ast.AST], module: str, parsed: Module, before: set[_Definition]
    ) -> list[_Definition]:
        """Settings classes that bases and fields name, be it through the name of a union."""
        names = Names(parsed.package)
        for node in nodes:
            if isinstance(node, ast.AnnAssign):
                names.visit_annotation(node.annotation)
            elif isinstance(node, ast.expr):
                names.visit(node)
        reached = _References()
        for chain, sources in names.found:
            self._resolve(module, parsed, chain, sources, reached)
        classes: list[_Definition] = []
        for item in reached.inside:
            other = self._modules[item[0]] if item[0] in SETTINGS else None
            if other is None or item in before:
                continue
            before.add(item)
            for node in other.definitions.get(item[1], ()):
                if isinstance(node, ast.ClassDef):
                    classes.append(item)
                elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                    classes += self._settings_in([node.value], item[0], other, before)
        return classes

    def _is_read(self, item: _Definition, read: set[Read]) -> bool:
        """Whether a computed property of a settings class may be among the attributes read."""
        own, _, name = item[1].partition(".")
        return any(
            owner is None or own in self._classes_of().get(owner, () if owner[0] == "@" else (own,))
            for attribute, owner in read
            if attribute == name
        )

    def _classes_of(self) -> dict[str, set[str]]:
        """Field, or `@class`, to the settings classes that its value may have."""
        if not self._owners:
            for module in SETTINGS:
                parsed = self._module(module)
                if parsed is not None:
                    for top, nodes in parsed.definitions.items():
                        for node in nodes:
                            self._add_owners(module, parsed, top, node)
            every = {name[1:] for name in self._owners if name.startswith("@")}
            self._owners |= dict.fromkeys(("@Any", "@object", "@BaseModel"), every)
        return self._owners

    def _add_owners(self, module: str, parsed: Module, top: str, node: ast.stmt) -> None:
        if isinstance(node, ast.ClassDef):
            bases = {name for _, name in self._settings_in(node.bases, module, parsed, set())}
            for name in {top, *bases}:
                self._owners.setdefault(f"@{name}", set()).add(top)
            for one in node.body:
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                    classes = {name for _, name in self._settings_in([one], module, parsed, set())}
                    self._owners.setdefault(one.target.id, set()).update(classes)
        elif isinstance(node, ast.Assign):
            # The name of a union.
            found = self._settings_in([node.value], module, parsed, set())
            self._owners.setdefault(f"@{top}", set()).update(name for _, name in found)

    def _resolve(
        self,
        module: str,
        parsed: Module,
        chain: Chain,
        sources: list[Import] | None,
        found: _References,
    ) -> None:
        """Follow `a.b.c` as written in a module to a definition of the library or to a package."""
        first, rest = chain[0], chain[1:]
        if sources is None:
            if first in parsed.definitions:
                found.inside.append((module, first))
            sources = parsed.imports.get(first, [])
        for source, attribute in sources:
            self._follow(source, ((attribute,) if attribute else ()) + rest, found, set())

    def _follow(
        self, source: str, names: Chain, found: _References, before: set[tuple[str, Chain]]
    ) -> None:
        """Follow names from a module on, through what it passes on from others."""
        if (source, names) in before:
            return
        before.add((source, names))
        parsed = self._module(source)
        if parsed is None:
            _add_outside(source, names, found)
        elif not names:
            # The module itself is handed around: anything of it may be used.
            found.inside.append((source, _WHOLE))
        else:
            name, rest = names[0], names[1:]
            found.inside.append((source, _EFFECTS))
            if name in parsed.definitions:
                found.inside.append((source, name))
            for other, attribute in parsed.imports.get(name, ()):
                self._follow(other, ((attribute,) if attribute else ()) + rest, found, before)
            if name not in parsed.definitions:
                self._follow(f"{source}.{name}", rest, found, before)


def _add_outside(source: str, names: Chain, found: _References) -> None:
    top = source.split(".", maxsplit=1)[0]
    if top not in (NAME, HARNESS, "__future__") and top not in sys.stdlib_module_names:
        found.outside.add(f"{source}:{names[0]}" if names else source)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
