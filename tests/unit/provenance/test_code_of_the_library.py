"""The closure of the real scripts: edits inside it change the digest, edits outside do not."""

from __future__ import annotations

import ast
import random
import shutil
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FrameType

import pytest

from layersight.data.dataset import make_concepts, make_probes
from layersight.provenance.code import (
    LIBRARY,
    SETTINGS,
    WITHOUT_INFLUENCE,
    CodeIndex,
    version_of,
)

SCRIPTS = LIBRARY.parent / "scripts"
SCRIPT = SCRIPTS / "cross_modal.py"
EDITED = 15


class _Edit(ast.NodeTransformer):
    """Changes the first number or operator of a function's body."""

    def __init__(self) -> None:
        self.done = False

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return node  # annotations do nothing

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if not self.done and type(node.value) in (int, float):
            self.done = True
            return ast.Constant(node.value + 1)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if not self.done:
            self.done = True
            node.op = ast.Pow() if isinstance(node.op, ast.Add) else ast.Add()
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if not self.done:
            self.done = True
            node.ops[0] = ast.Is() if isinstance(node.ops[0], ast.NotEq) else ast.NotEq()
        return node


def _edited(source: str, name: str) -> str | None:
    """Return a module with one function changed; None if it holds nothing to change."""
    tree = ast.parse(source)
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
    if len(functions) != 1:
        return None
    edit = _Edit()
    edit.visit(functions[0])
    # Unparsed, the whole module has another layout and no comments.
    return ast.unparse(ast.fix_missing_locations(tree)) if edit.done else None


def _functions() -> list[tuple[Path, str, str]]:
    """Every function at the top of a module: file in the library, name, name in a record."""
    found = []
    for file in sorted(LIBRARY.rglob("*.py")):
        place = file.relative_to(LIBRARY)
        module = ".".join((LIBRARY.name, *place.with_suffix("").parts)).removesuffix(".__init__")
        if module not in SETTINGS:
            found += [
                (place, node.name, f"{module}:{node.name}")
                for node in ast.parse(file.read_text()).body
                if isinstance(node, ast.FunctionDef)
            ]
    return found


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / LIBRARY.name
    shutil.copytree(LIBRARY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("reached", [True, False])
def test_a_random_edit_changes_the_digest_if_and_only_if_it_is_reached(copied, reached):
    before = CodeIndex(copied).code(SCRIPT)
    candidates = [f for f in _functions() if (f[2] in before.definitions) == reached]
    random.Random(7).shuffle(candidates)
    edited = 0
    for place, name, key in candidates:
        file = copied / place
        source = file.read_text()
        text = _edited(source, name)
        if text is None:
            continue
        file.write_text(text)
        try:
            after = CodeIndex(copied).code(SCRIPT)
        finally:
            file.write_text(source)
        changed = {
            item
            for item in before.definitions.keys() | after.definitions.keys()
            if before.definitions.get(item) != after.definitions.get(item)
        }
        assert changed == ({key} if reached else set()), f"{place}: {name}"
        assert (after.digest != before.digest) == reached
        edited += 1
        if edited == EDITED:
            return
    pytest.fail(f"only {edited} functions could be edited")


def test_every_definition_that_two_scripts_run_is_in_their_closures(tmp_path, smoke):
    """What really runs, as the interpreter reports it."""
    files = {str(file): file.relative_to(LIBRARY) for file in LIBRARY.rglob("*.py")}
    ran: set[str] = set()

    def record(frame: FrameType, event: str, argument: object) -> None:
        place = files.get(frame.f_code.co_filename)
        if event == "call" and place is not None:
            module = ".".join((LIBRARY.name, *place.with_suffix("").parts))
            name = frame.f_code.co_qualname.split(".")[0]
            if module not in SETTINGS | WITHOUT_INFLUENCE and not name.startswith("<"):
                ran.add(f"{module}:{name}")

    concepts = tmp_path / "concepts.parquet"
    outs = {probe: tmp_path / f"{probe}.parquet" for probe in smoke.probes.sets}
    sys.setprofile(record)
    try:
        make_concepts(smoke, tmp_path, concepts)
        make_probes(smoke, concepts, outs)
    finally:
        sys.setprofile(None)
    index = CodeIndex()
    reached = {
        name
        for script in ("make_concepts.py", "make_probes.py")
        for name in index.code(SCRIPTS / script).definitions
    }
    assert len(ran) > 20
    assert ran - reached == set()


@cache
def modules_of(distribution: str) -> set[str]:
    files = metadata.distribution(distribution).read_text("RECORD") or ""
    return {line.split("/")[0].split(",")[0].removesuffix(".py") for line in files.splitlines()}


def test_all_scripts_are_digested_quickly_and_name_the_packages_they_import():
    index = CodeIndex()
    start = time.process_time()
    codes = {
        script.name: index.code(script)
        for script in sorted(SCRIPTS.glob("*.py"))
        if script.name != "running.py"
    }
    # 0.5 s on a quiet core; what is guarded against is a multiple of that.
    assert time.process_time() - start < 2.5
    for code in codes.values():
        assert len(code.definitions) > 1
        for name in code.definitions:
            top = name.split(":")[0].split(".")[0]
            if top != LIBRARY.name and not name.startswith("<"):
                found = version_of(top)
                assert found is not None, name
                assert top in modules_of(found[0])
                assert found[1] == metadata.version(found[0])
                assert code.packages[found[0]] == found[1]
