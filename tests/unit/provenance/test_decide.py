"""Which steps run after which change, and what they say about it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from layersight.provenance.decide import decide
from layersight.provenance.digests import Digests
from layersight.provenance.records import Step, flattened, read_record, write_record

INPUTS = {"table": ["data/a", "data/b"], "model": ["data/m"]}


def run(*steps: Step, content: str = "made") -> None:
    """Make every output of some steps, and record them."""
    for step in steps:
        for path in step.outputs:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(f"{content} {path}")
        write_record(step, Digests())


def why(*steps: Step, wanted: tuple[str, ...] = ()) -> list[str]:
    """The reasons of every step, joined."""
    verdicts = decide(steps, Digests(), wanted=frozenset(wanted))
    return ["; ".join(verdict.why) for verdict in verdicts]


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for name in ("a", "b", "m", "new"):
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "data" / name).write_text(name)
    return folder


@pytest.fixture
def step(make_step, results):
    """A step that has run, on inputs that nobody makes."""
    step = make_step("measure", INPUTS, ["out/x", "out/y"], settings={"seed": 1, "list": [1, [2]]})
    run(step)
    return step


def test_nothing_runs_when_nothing_differs(step):
    assert why(step) == [""]


def test_a_step_that_never_ran_runs(make_step, results):
    assert why(make_step("measure", INPUTS, ["out/x"])) == ["it has not run yet"]


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", "\x00", '{"settings": 1}', "null"])
def test_outputs_without_a_readable_record_are_made_again(step, text):
    if text is None:
        step.record.unlink()
    else:
        step.record.write_text(text)
    assert why(step) == [f"no record says what {step.outputs[0]} was made from"]


def test_a_record_with_parts_of_another_form_is_none(step):
    whole = step.record.read_text()
    step.record.write_text(whole.replace('"parts": null', '"part": null'))
    assert read_record(step.record) is None
    for key in ("settings", "definitions", "packages", "inputs", "outputs"):
        step.record.write_text(whole.replace(f'"{key}": {{', f'"{key}": [], "was": {{'))
        assert read_record(step.record) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"settings": {"seed": 2, "list": [1, [2]]}}, "seed: 1 -> 2"),
        ({"settings": {"seed": 1, "list": [1, [3]]}}, "list: [1, [2]] -> [1, [3]]"),
        ({"settings": {"seed": 1}}, "list: [1, [2]] -> not set"),
        ({"code": {"m:f": "2"}}, "m:f changed"),
        ({"code": {"m:f": "1", "m:g": "1"}}, "m:g is new"),
        ({"code": {"m:g": "1"}}, "m:f is gone; m:g is new"),
        ({"packages": {"numpy": "2.1"}}, "package numpy: 2.0 -> 2.1"),
        ({"packages": {"numpy": "2.0", "scipy": "1"}}, "package scipy: not used -> 1"),
    ],
)
def test_another_setting_function_or_package_is_named(make_step, step, change, reason):
    told = {"settings": {"seed": 1, "list": [1, [2]]}} | change
    now = make_step("measure", INPUTS, ["out/x", "out/y"], **told)
    assert why(now) == [reason]
    assert decide([now], Digests())[0].changing == set(now.outputs)


def test_settings_come_back_from_a_record_as_they_went_in(make_step, results):
    told = flattened({"a": (1, (2, 3)), "b": {"c": [(1.5, None)], "d": {}}, "e": {1: (2,)}})
    step = make_step("measure", INPUTS, ["out/x"], settings=told)
    run(step)
    assert why(step) == [""]
    assert told == {"a": [1, [2, 3]], "b.c": [[1.5, None]], "b.d": {}, "e.1": [2]}


def test_the_order_of_variants_is_a_setting(make_step, results):
    one = flattened({"variants": {"a": {"x": 1}, "b": {"x": 2}}})
    other = flattened({"variants": {"b": {"x": 2}, "a": {"x": 1}}})
    assert one["variants.(order)"] == ["a", "b"]
    assert one != other


def test_a_touched_input_runs_nothing_and_a_changed_one_does(step, results):
    path = results / "data" / "a"
    path.write_text("a")
    assert why(step) == [""]
    path.write_text("b")
    assert why(step) == [f"the content of {path} changed"]


@pytest.mark.parametrize(
    ("inputs", "reasons"),
    [
        ({"table": ["data/a", "data/b", "data/new"], "model": ["data/m"]}, "new is a new input"),
        ({"table": ["data/a"], "model": ["data/m"]}, "b is no longer an input"),
        ({"table": ["data/a", "data/b"]}, "m is no longer an input"),
        ({"table": ["data/a", "data/b"], "model": []}, "m is no longer an input"),
        ({"table": ["data/b", "data/a"], "model": ["data/m"]}, "the order of its inputs changed"),
    ],
)
def test_other_inputs_run_a_step(make_step, step, results, inputs, reasons):
    now = make_step("measure", inputs, ["out/x", "out/y"], settings=step.settings)
    assert why(now)[0].removeprefix(f"{results}/data/") == reasons
    run(now)
    assert why(now) == [""]


def test_an_input_named_twice_is_no_other_order(make_step, results):
    step = make_step("measure", {"table": ["data/a", "data/b", "data/a"]}, ["out/x"])
    run(step)
    assert why(step) == [""]


def test_an_output_that_is_new_is_made(make_step, step, results):
    now = make_step("measure", INPUTS, ["out/x", "out/y", "out/z"], settings=step.settings)
    verdict = decide([now], Digests())[0]
    assert verdict.why == [f"{results}/out/z is new"]
    assert verdict.changing == {f"{results}/out/z"}


def test_a_damaged_output_is_made_again_and_a_restored_one_is_not(step):
    path = Path(step.outputs[1])
    before = path.read_text()
    path.write_text("damaged")
    assert why(step) == [f"{path} was changed on disk"]
    path.unlink()
    assert why(step) == [""]
    path.write_text(before)
    assert why(step) == [""]


def test_a_missing_output_is_made_only_if_it_is_asked_for_or_needed(make_step, step, results):
    path = step.outputs[0]
    user = make_step("use", {"table": ["out/x"]}, ["out/used"])
    run(user)
    Path(path).unlink()
    assert why(step, user) == ["", ""]
    assert why(step, user, wanted=(path,))[0] == f"{path} is missing, and it is asked for"
    Path(user.outputs[0]).unlink()
    assert why(step, user, wanted=tuple(user.outputs)) == [
        f"{path} is missing, and use needs it",
        f"{user.outputs[0]} is missing, and it is asked for",
    ]


@pytest.fixture
def chain(make_step, results):
    """Three steps, each reading the one before."""
    names = ("data/a", "one", "two", "three")
    steps = [make_step(f"to-{made}", {"input": [read]}, [made]) for read, made in pairwise(names)]
    run(*steps)
    return steps


def test_what_is_behind_a_changed_step_runs(chain):
    assert why(*chain) == ["", "", ""]
    chain[0] = replace(chain[0], settings={"seed": 2})
    assert why(*chain) == ["seed: 1 -> 2", "to-one runs again", "to-two runs again"]


def test_what_is_made_again_is_expected_to_come_out_the_same(chain):
    Path(chain[0].outputs[0]).write_text("damaged")
    assert why(*chain) == [f"{chain[0].outputs[0]} was changed on disk", "", ""]
    Path(chain[2].outputs[0]).unlink()
    Path(chain[1].outputs[0]).unlink()
    assert why(*chain, wanted=tuple(chain[2].outputs)) == [
        f"{chain[0].outputs[0]} was changed on disk",
        f"{chain[1].outputs[0]} is missing, and to-three needs it",
        f"{chain[2].outputs[0]} is missing, and it is asked for",
    ]


def test_what_came_out_different_after_all_runs_what_is_behind_it(chain):
    run(chain[0], content="different")
    assert why(*chain) == ["", f"the content of {chain[0].outputs[0]} changed", "to-two runs again"]


def test_a_step_interrupted_before_its_turn_runs_the_next_time(chain, results):
    (results / "data" / "a").write_text("changed")
    run(chain[0], content="changed")
    # Killed here; the first step is done.
    Path(chain[0].outputs[0]).unlink()
    assert why(*chain, wanted=tuple(chain[2].outputs)) == [
        f"{chain[0].outputs[0]} is missing, and to-two needs it",
        f"the content of {chain[0].outputs[0]} changed",
        "to-two runs again",
    ]


PARTED = {"model": ["data/m"], "probes": ["data/a", "data/b"]}


@pytest.fixture
def parted(make_step, results):
    step = make_step("dump", PARTED, ["out/a", "out/b"], parts="probes")
    users = [make_step(f"use-{x}", {"input": [f"out/{x}"]}, [f"used/{x}"]) for x in "ab"]
    run(step, *users)
    return [step, *users]


def test_an_input_of_one_part_changes_only_its_output(parted, results):
    (results / "data" / "b").write_text("changed")
    assert why(*parted) == [f"the content of {results}/data/b changed", "", "dump runs again"]
    assert decide(parted, Digests())[0].changing == {parted[0].outputs[1]}


def test_an_input_of_all_parts_changes_all(parted, results):
    (results / "data" / "m").write_text("changed")
    assert why(*parted)[1:] == ["dump runs again", "dump runs again"]


def test_a_new_part_leaves_the_others_and_a_part_less_runs_nothing(make_step, parted, results):
    inputs = PARTED | {"probes": ["data/a", "data/new", "data/b"]}
    more = make_step("dump", inputs, ["out/a", "out/new", "out/b"], parts="probes")
    assert why(more, *parted[1:])[1:] == ["", ""]
    assert decide([more], Digests())[0].changing == {f"{results}/out/new"}
    less = make_step("dump", PARTED | {"probes": ["data/b"]}, ["out/b"], parts="probes")
    assert why(less, parted[2]) == ["", ""]


def test_parts_in_another_order_run_nothing_and_parts_from_each_other_do(
    make_step, parted, results
):
    inputs = PARTED | {"probes": ["data/b", "data/a"]}
    assert why(make_step("dump", inputs, ["out/b", "out/a"], parts="probes")) == [""]
    crossed = make_step("dump", inputs, ["out/a", "out/b"], parts="probes")
    assert why(crossed, *parted[1:]) == [
        f"{results}/out/a was made from {results}/data/a; "
        f"{results}/out/b was made from {results}/data/b",
        "dump runs again",
        "dump runs again",
    ]


def test_a_damaged_part_is_made_again_and_nothing_behind_it(parted):
    Path(parted[0].outputs[0]).write_text("damaged")
    assert why(*parted) == [f"{parted[0].outputs[0]} was changed on disk", "", ""]


def test_the_key_of_an_output_holds_all_it_depends_on_and_no_path(make_step, parted, results):
    step, digests = parted[0], Digests()
    first, second = step.outputs
    key = step.key(first, digests)
    moved = make_step("other", PARTED, ["else/a", "else/b"], parts="probes")
    assert moved.key(moved.outputs[0], digests) == key
    keys = {
        key,
        step.key(second, digests),
        replace(step, settings={"seed": 2}).key(first, digests),
        replace(step, code=replace(step.code, definitions={"m:f": "2"})).key(first, digests),
        replace(step, code=replace(step.code, packages={})).key(first, digests),
    }
    (results / "data" / "b").write_text("changed")
    assert step.key(first, Digests()) == key
    (results / "data" / "m").write_text("changed")
    keys.add(step.key(first, Digests()))
    assert len(keys) == 6
