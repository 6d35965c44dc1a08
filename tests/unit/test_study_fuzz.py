"""Whatever stands in a study file, reading it gives a study or one message that names the file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import ROOT

from layersight.errors import StudyError
from layersight.study import Study
from layersight.study_file import load_study

TEXT = (ROOT / "config/studies/smoke.yaml").read_text()
VALID: dict[str, Any] = load_study(ROOT / "config/studies/smoke.yaml").model_dump(mode="json")
fuzzed = settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def keys_of(value: Any, *key: Any) -> list[tuple[Any, ...]]:
    """Return the paths of everything inside nested mappings and lists."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for name, item in parts:
        found.append((*key, name))
        if isinstance(item, (dict, list)):
            found += keys_of(item, *key, name)
    return found


KEYS = keys_of(VALID)
NAMES = sorted({str(key[-1]) for key in KEYS} | {"extends", "source", "base", "quota", "options"})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 64),
    st.sampled_from([2**31, 2**63 - 1, 2**63, 10**40, -(10**400)]),
    st.floats(),
    st.sampled_from(
        ["", " ", "1e5", "0x_", "yes", "null", "~", "<image>", "filled", "\u2028", "é"]
    ),
    st.sampled_from(NAMES),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=4)), inner, max_size=3),
        st.dictionaries(SCALARS.filter(lambda key: key == key), inner, max_size=2),
    ),
    max_leaves=6,
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.sampled_from(["drop", "rename", "replace", "replace", "wrap", "copy"]),
        st.sampled_from(NAMES) | st.text(max_size=5),
        VALUES,
    ),
    min_size=1,
    max_size=3,
)


def changed(changes: list[tuple[tuple[Any, ...], str, str, Any]]) -> dict[str, Any]:
    data = copy.deepcopy(VALID)
    for (*parents, last), how, name, value in changes:
        target: Any = data
        try:
            for part in parents:
                target = target[part]
            old = target[last]
        except (LookupError, TypeError):
            continue  # an earlier change took it away
        if not isinstance(target, (dict, list)):
            continue
        if how == "drop" or (how == "rename" and isinstance(target, dict)):
            del target[last]
        if how == "rename" and isinstance(target, dict):
            target[name] = old
        elif how == "replace":
            target[last] = value
        elif how == "wrap":
            target[last] = [old] if isinstance(old, dict) else {name: old}
        elif how == "copy" and isinstance(target, dict):
            target[name] = copy.deepcopy(old)
    return data


def dumped(data: Any) -> str:
    """Quote every text, so that none is read back as a number or a date."""
    return yaml.safe_dump(data, sort_keys=False, default_style='"', allow_unicode=True)


def read(folder: Path, content: str | bytes) -> Study | None:
    """Read a study; None stands for a refusal whose message names the file."""
    path = folder / "smoke.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    try:
        study = load_study(path)
    except StudyError as error:
        assert str(path) in str(error)
        assert "Traceback" not in str(error) and len(str(error)) < 6000
        return None
    assert isinstance(study, Study)
    path.write_text(dumped(study.model_dump(mode="json")), encoding="utf-8")
    assert load_study(path) == study
    return study


def test_the_study_that_is_mutated_is_valid(tmp_path):
    assert read(tmp_path, TEXT) is not None
    assert read(tmp_path, dumped(VALID)) is not None


@fuzzed
@given(changes=CHANGES)
def test_changed_values_give_a_study_or_a_message(tmp_path, changes):
    read(tmp_path, dumped(changed(changes)))


@settings(fuzzed, max_examples=100)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(TEXT)),
            st.integers(0, 12),
            st.text(max_size=4)
            | st.sampled_from(
                ["\t", "\n", "- ", ": ", "{", "]", "&a ", "*a", "<<: ", "!!int ", "!!binary ",
                 "!!timestamp x", "? ", "'", '"', "|", ">", "#", "%", "@", "\x00", "2001-13-45",
                 "=", "._", "!!set {a}", "!!python/name:os.system "]
            ),
        ),
        min_size=1,
        max_size=3,
    )
)  # fmt: skip
def test_changed_text_gives_a_study_or_a_message(tmp_path, edits):
    text = TEXT
    for start, length, put in edits:
        text = text[:start] + put + text[start + length :]
    read(tmp_path, text)


@settings(fuzzed, max_examples=50)
@given(content=st.binary(max_size=60))
def test_any_bytes_give_a_study_or_a_message(tmp_path, content):
    assert read(tmp_path, content) is None


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ".".join(map(str, key)))
def test_every_key_may_hold_nothing_or_is_refused(tmp_path, key):
    read(tmp_path, dumped(changed([(key, "replace", "", None)])))
