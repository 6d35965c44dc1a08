"""What a script reaches in a library, and which edits change its digest."""

from __future__ import annotations

import pytest

USES_F = "from layersight.a import f\n\nf(1)\n"

BEFORE = '''\
"""What the module is for."""
from layersight.b import g
from layersight.b import LIMIT
import json
import math

SIZE: int = 3


def f(x: int) -> int:
    """Double it."""
    y: int = g(x)
    return y * SIZE + math.floor(LIMIT)
'''
B = """\
LIMIT = 2.5


def g(x):
    return x + 1
"""
SAME = '''\
# A comment.
import math, json
from layersight.b import LIMIT, g
SIZE = (
    3
)
def f(x: "float | None") -> object:
    """Something else entirely.

    In two paragraphs.
    """
    # Another comment.
    y = g( x )

    return (y * SIZE) + math.floor(LIMIT)


def unused(x):
    return x
'''


def test_comments_docstrings_layout_annotations_and_import_order_change_nothing(library):
    before = library.write(USES_F, a=BEFORE, b=B).code()
    library.module("a", SAME)
    assert library.code() == before
    library.script.write_text("# Why.\nfrom layersight.a import (\n    f,\n)\nf( 1 )\n")
    assert library.code() == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("a", "SIZE: int = 3", "SIZE: int = 4"),
        ("a", "y * SIZE +", "y * SIZE -"),
        ("a", "math.floor", "math.ceil"),
        ("b", "LIMIT = 2.5", "LIMIT = 2"),
        ("b", "x + 1", "x + True"),
        ("b", "def g(x):", "def g(x, y=0):"),
        ("b", "def g(x):", "def g(x, *, y=0):"),
        ("b", "def g(x):", "def g(*x):"),
        ("b", "def g(x):", "async def g(x):"),
        ("b", "def g(x):", "@staticmethod\ndef g(x):"),
        ("b", "return x + 1", "yield x + 1"),
    ],
)
def test_every_change_of_what_is_reached_changes_the_digest(library, module, old, new):
    sources = {"a": BEFORE, "b": B}
    before = library.write(USES_F, **sources).code()
    assert old in sources[module]
    library.module(module, sources[module].replace(old, new))
    assert library.code().digest != before.digest


def test_values_of_another_type_are_other_values(library):
    digests = set()
    for value in ("1", "1.0", "True", "'1'", "b'1'", "None", "(1,)", "[1]", "{1}", "-1", "x"):
        digests.add(library.write(USES_F, a=f"def f(x):\n    return {value}\n").code().digest)
    assert len(digests) == 11


def test_a_helper_of_two_functions_is_reached_by_both_and_they_not_by_each_other(library):
    text = "def h(): pass\ndef f(x): return h()\ndef g(x): return h()\n"
    assert library.write(USES_F, a=text).names() == {"a:f", "a:h"}
    library.script.write_text("from layersight.a import g\ng(1)\n")
    assert library.names() == {"a:g", "a:h"}


def test_recursion_ends(library):
    text = "def f(x): return g(x)\ndef g(x): return f(x) or g(x)\n"
    assert library.write(USES_F, a=text).names() == {"a:f", "a:g"}


def test_all_statements_of_a_script_count(library):
    library.write(
        "from layersight.a import f\n\ndef own():\n    return 1\n\n\nprint(own())\n", a=""
    )
    first = library.code().digest
    library.script.write_text(library.script.read_text().replace("return 1", "return 2"))
    second = library.code().digest
    library.script.write_text(library.script.read_text().replace("print(own())", "own()"))
    assert len({first, second, library.code().digest}) == 3


def test_a_function_of_a_script_sees_what_the_script_imports_under_a_with(library):
    script = """\
def own():
    return f(1)

with open("x"):
    from layersight.a import f
    own()
"""
    assert library.write(script, a="def f(x): pass\n").names() == {"a:f"}


def test_a_class_is_reached_whole_with_bases_and_decorators(library):
    text = """\
from dataclasses import dataclass, field

def mark(cls): return cls
def default(): return 1
def helper(): return 2
def other(): return 3

class Base:
    def m(self): return helper()

@mark
class C(Base):
    x: int = default()
    def n(self): return self.o()
    def o(self): return 0
"""
    library.write("from layersight.a import C\nC().n()\n", a=text)
    assert library.names() == {"a:C", "a:Base", "a:mark", "a:default", "a:helper"}
    before = library.code().digest
    library.module("a", text.replace("return 0", "return 1"))
    assert library.code().digest != before
    # The annotation of a field is part of what a data class or a model is.
    library.module("a", text.replace("x: int", "x: float"))
    assert library.code().digest != before


def test_decorators_and_default_arguments_are_followed(library):
    text = """\
START = 1
def trace(f): return f
def inner(): return 2

@trace
def f(x=START, *, y=inner()): return x
"""
    assert library.write(USES_F, a=text).names() == {"a:f", "a:START", "a:trace", "a:inner"}


def test_an_annotation_reaches_the_class_whose_methods_are_called(library):
    text = """\
class A: pass
class B: pass
class C: pass
class D: pass
def f(x: A, *more: "B | None") -> list[C]:
    y: D
    return x.run()
"""
    assert library.write(USES_F, a=text).names() == {"a:f", "a:A", "a:B", "a:C", "a:D"}


@pytest.mark.parametrize(
    "body",
    [
        "def f(h): return h()",
        "def f(*h): return h",
        "def f(x):\n    h = x\n    return h()",
        "def f(x):\n    for h in x: h()",
        "def f(x):\n    with x as h: h()",
        "def f(x):\n    try: pass\n    except OSError as h: h()",
        "def f(x):\n    if (h := x): return h()",
        "def f(x):\n    def h(): return 1\n    return h()",
        "def f(x):\n    match x:\n        case [h]: return h",
        "def f(x):\n    match x:\n        case {'a': 1, **h}: return h",
        "def f(x): return [h() for h in x]",
        "def f(x): return {h: 1 for a in x for h in a}",
        "def f(x): return lambda h: h()",
        "def f(h):\n    def inner(): return h()\n    return inner",
        "def f(x): return x.h()",
    ],
)
def test_a_variable_with_the_name_of_a_function_is_not_that_function(library, body):
    text = f"def h(): return 1\n{body}\n"
    assert library.write(USES_F, a=text).names() == {"a:f"}


@pytest.mark.parametrize(
    "body",
    [
        "def f(x):\n    a = [h for h in x]\n    return h()",
        "def f(x): return [h for h in h(x)]",
        "def f(x):\n    g = lambda h: h\n    return h()",
        "def f(x, y=h()): return y",
        "def f(x):\n    def g(h): return h\n    return g(h)",
        "def f(x):\n    global h\n    h = x",
        "def f(x):\n    def g(): return [h() for _ in x]\n    return g",
        "def f(x): return lambda y: h(y)",
        "def f(x): return lambda y=h: y",
        "def f(x):\n    class C:\n        def m(self): return h()\n    return C",
        "def f(x): return f'{h()!r:>{x}}'",
        "def f(x): return {**h()}",
        "def f(x):\n    while True:\n        try: pass\n        finally: h()",
        "async def f(x):\n    async for y in h(): await y",
    ],
)
def test_a_name_is_found_wherever_it_is_read(library, body):
    text = f"def h(): return 1\n{body}\n"
    assert library.write(USES_F, a=text).names() == {"a:f", "a:h"}


@pytest.mark.parametrize(
    "text",
    [
        "from layersight.p.b import g\ndef f(x): return g()",
        "from layersight.p.b import g as other\ndef f(x): return other()",
        "import layersight.p.b as c\ndef f(x): return c.g()",
        "import layersight.p.b\ndef f(x): return layersight.p.b.g()",
        "from layersight.p import b\ndef f(x): return b.g()",
        "from layersight import p\ndef f(x): return p.b.g()",
        "from .p.b import g\ndef f(x): return g()",
        "from . import p\ndef f(x): return p.b.g()",
        "def f(x):\n    from layersight.p.b import g\n    return g()",
        "def f(x):\n    from .p import b\n    return b.g()",
        "def f(x):\n    def inner():\n        import layersight.p.b as c\n        return c.g()",
        "try:\n    from layersight.p.b import g\nexcept ImportError:\n    g = None\n"
        "def f(x): return g()",
        "def f(x):\n    try:\n        from layersight.p.b import g\n    except ImportError:\n"
        "        g = None\n    return g()",
    ],
)
def test_imports_of_every_form_are_followed(library, text):
    library.write(USES_F, a=text, p__b="def g(): return 1\ndef other(): return 2\n")
    # Of `try`, the statement itself is there too.
    assert library.names() - {"a"} == {"a:f", "p.b:g"}


def test_both_places_that_a_name_may_come_from_are_followed(library):
    at_the_top = """\
try:
    from layersight.fast import g
except ImportError:
    from layersight.slow import g
def f(x): return g()
"""
    within = """\
def f(x):
    if x:
        from layersight.fast import g
    else:
        from layersight.slow import g
    return g()
"""
    for text in (at_the_top, within):
        library.write(USES_F, a=text, fast="def g(): return 1\n", slow="def g(): return 2\n")
        assert library.names() >= {"a:f", "fast:g", "slow:g"}


def test_a_definition_under_a_condition_counts(library):
    text = """\
import sys
if sys.byteorder == "big":
    def g(): return 1
else:
    def g(): return 2
def f(x): return g()
"""
    before = library.write(USES_F, a=text).code().digest
    library.module("a", text.replace("return 2", "return 3"))
    assert library.code().digest != before


def test_names_passed_on_by_another_module_are_followed(library):
    library.write(
        USES_F,
        a="from layersight.p import g\ndef f(x): return g()\n",
        p__init="from layersight.p.b import g as g\nfrom layersight.p import b\n",
        p__b="from layersight.q import g\n",
        q="def g(): return 1\n",
    )
    assert library.names() == {"a:f", "q:g"}


def test_a_package_that_imports_its_own_module_ends(library):
    library.write(
        USES_F,
        a="from layersight import p\ndef f(x): return p.b.g()\n",
        p__init="from . import b\n",
        p__b="def g(): return 1\n",
    )
    assert library.names() == {"a:f", "p.b:g"}


def test_of_a_module_that_is_handed_around_everything_counts(library):
    library.write(
        "from layersight import b\nprint(b)\n",
        b="from layersight.c import passed_on\nfrom layersight.c import used\n"
        "SIZE = 1\ndef g(): return used()\n",
        c="def passed_on(): pass\ndef used(): pass\ndef unused(): pass\n",
    )
    assert library.names() == {"b:SIZE", "b:g", "c:passed_on", "c:used"}


def test_everything_counts_that_a_star_may_bring(library):
    library.write(
        USES_F,
        a="from layersight.b import *\ndef f(x): return g()\n",
        b="from layersight.c import h\ndef g(): return 1\n",
        c="def h(): return 2\n",
    )
    assert library.names() == {"a:f", "b:g", "c:h"}


def test_a_module_that_the_settings_choose_is_reached_whole(library):
    library.write(
        "from layersight.methods import load\nload('full')\n",
        methods__init="from importlib import import_module\n"
        "def load(name): return import_module(f'layersight.methods.{name}')\n",
        methods__full="def apply(): return 1\n",
        methods__lora="def apply(): return 2\n",
    )
    assert library.names() == {"methods:load"}
    assert library.names("layersight.methods.full") == {"methods:load", "methods.full:apply"}
    with pytest.raises(ModuleNotFoundError, match="layersight.methods.half"):
        library.names("layersight.methods.half")


def test_files_that_are_no_python_count_where_they_are_named(library):
    library.write("1\n")
    page = library.folder / "templates" / "page.html"
    page.parent.mkdir()
    page.write_text("one")
    assert library.names("file:templates") == {"templates/page.html"}
    before = library.code("file:templates").digest
    page.write_text("two")
    assert library.code("file:templates").digest != before
    assert library.names() == set()


def test_what_a_module_does_when_imported_counts_for_all_who_import_it(library):
    library.write(
        USES_F,
        a="import layersight.registry\nfrom layersight.p.b import g\ndef f(x): return g()\n",
        registry="from layersight.c import h\nTABLE = {}\nTABLE['h'] = h\nTABLE.update(x=1)\n",
        c="def h(): return 1\n",
        p__init="print('hello')\n",
        p__b="def g(): return 1\n",
    )
    assert library.names() == {"a:f", "p", "p.b:g", "registry", "registry:TABLE", "c:h"}


def test_imports_for_type_checking_are_not_run_and_name_classes(library):
    library.write(
        USES_F,
        a="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from layersight.b import B\nelse:\n    SIZE = 1\n"
        "def f(x: B): return x.m() + SIZE\n",
        b="print('never')\nclass B:\n    def m(self): return 1\n",
    )
    assert library.names() - {"b"} == {"a:f", "a:SIZE", "b:B"}


def test_modules_that_only_speak_to_people_do_not_count(library):
    library.write(
        USES_F,
        a="from layersight.errors import E\nfrom layersight import progress\n"
        "def f(x):\n    progress.say(1)\n    raise E\n",
        errors="class E(Exception): pass\n",
        progress="def say(x): print(x)\n",
    )
    before = library.code()
    assert library.names() == {"a:f"}
    library.module("progress", "def say(x): print(x, x)\n")
    assert library.code() == before


SETTINGS = '''\
from pydantic import BaseModel, field_validator

def distinct(x): return x
def half(x): return x // 2

class Model(BaseModel):
    blocks: int

    @field_validator("blocks")
    def _check(cls, value): return distinct(value)

    @property
    def middle(self): return half(self.blocks)

class Tiny(BaseModel):
    width: int

AnyModel = Model | Tiny

class Study(BaseModel):
    """A study."""
    seed: int
    model: AnyModel

    @property
    def depth(self): return self.model.middle

    @property
    def unread(self): return 1
'''


def test_of_settings_only_the_computed_properties_that_are_read_count(library):
    library.write(
        USES_F,
        a="from layersight.study import Study\ndef f(study: Study): return study.depth\n",
        study=SETTINGS,
    )
    before = library.code()
    assert library.names() == {"a:f", "study:Study.depth", "study:Model.middle", "study:half"}
    for old, new in (
        ("    seed: int\n", "    seed: int\n    more: int = 3\n"),
        ("distinct(value)", "value"),
        ("return 1", "return 2"),
        ("    width: int", "    width: float"),
        ('"""A study."""', '"""The study."""'),
    ):
        assert SETTINGS.count(old) == 1
        library.module("study", SETTINGS.replace(old, new))
        assert library.code() == before
    for old, new in (("x // 2", "x // 3"), ("self.model.middle", "self.model.middle + 1")):
        library.module("study", SETTINGS.replace(old, new))
        assert library.code().digest != before.digest


@pytest.mark.parametrize(
    ("read", "counts"),
    [
        ("def f(study: Study): return study.model.middle", True),
        ("def f(study: Study):\n    m = study.model\n    return m.middle", True),
        ("def f(study: Study):\n    for m in [study.model]: return m.middle", True),
        ("def f(study: Study): return getattr(study.model, 'middle')", True),
        ("def f(study: Study): return g(study.model)\ndef g(m: Model): return m.middle", True),
        ("def f(study: Study): return g(study.model)\ndef g(m: AnyModel): return m.middle", True),
        ("def f(study: Study): return g(study.model)\ndef g(m: Any): return m.middle", True),
        ("def f(study: Study): return g(study.model)\ndef g(m: Tiny): return m.middle", False),
        ("def f(study: Study): return g(study.model)\ndef g(m: Other): return m.middle", False),
        ("def f(study: Study): return study.seed", False),
    ],
)
def test_a_property_counts_unless_something_else_is_read(library, read, counts):
    library.write(
        USES_F,
        a="from typing import Any\nfrom layersight.study import AnyModel, Model, Study, Tiny\n"
        f"class Other:\n    middle = 1\n{read}\n",
        study=SETTINGS,
    )
    assert ("study:Model.middle" in library.names()) == counts


def test_a_property_that_a_template_reads_counts(library):
    library.write(
        USES_F,
        a="from layersight.study import Study\ndef f(study: Study): return study\n",
        study=SETTINGS,
    )
    (library.folder / "templates").mkdir()
    (library.folder / "templates" / "page.html").write_text("{{ study.unread }}")
    assert "study:Study.unread" not in library.names()
    assert "study:Study.unread" in library.names("file:templates")


def test_packages_are_named_with_their_versions_and_the_standard_library_is_not(library):
    from importlib.metadata import version

    library.write(
        USES_F,
        a="import json\nimport numpy as np\nimport pandas\nfrom PIL import Image\nimport yaml\n"
        "import not_installed\n"
        "def f(x): return json.dumps(np.mean(Image.open(yaml.safe_load(not_installed.x))))\n",
    )
    code = library.code()
    assert code.packages == {name: version(name) for name in ("PyYAML", "numpy", "pillow")}
    assert {name for name, digest in code.definitions.items() if not digest} == {
        "PIL:Image",
        "not_installed:x",
        "numpy:mean",
        "yaml:safe_load",
    }


def test_a_file_that_is_no_python_is_an_error(library):
    library.write(USES_F, a="def f(:\n")
    with pytest.raises(SyntaxError, match=r"a\.py"):
        library.code()
