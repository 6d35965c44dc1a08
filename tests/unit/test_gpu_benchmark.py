"""The script that measures a GPU, on tiny shapes without one: what it counts, runs and writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib

import pytest
import torch
from tests.conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode

SCRIPTS = ROOT / "benchmarks"
# The packages of a machine with a GPU that has no Snakemake.
THERE = {
    "accelerate", "jinja2", "numpy", "pandas", "peft", "pillow", "protobuf", "pyarrow", "pyyaml",
    "safetensors", "scikit-learn", "scipy", "sentencepiece", "threadpoolctl", "torch",
    "transformers", "matplotlib",
}  # fmt: skip


@pytest.fixture(scope="module")
def gpu():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import gpu
    finally:
        sys.path.remove(str(SCRIPTS))
    return gpu


@pytest.fixture(scope="module")
def pages(gpu):
    return sys.modules["gpu_pages"]


@pytest.mark.parametrize(("heads", "key_value_heads"), [(4, 4), (4, 2)])
def test_the_operations_of_a_step_are_those_that_torch_counts(gpu, heads, key_value_heads):
    shape = gpu.Shape(3, 64, 96, heads, key_value_heads, 80)
    device = torch.device("cpu")
    model = gpu.make_model(shape, 12, device, torch.float32)
    # Torch knows no count of the CPU's fused attention; that one attends to half of all pairs.
    model.language_model.set_attn_implementation("eager")
    batch, answers = gpu.make_batch(gpu.QUICK, shape, (2, 40), device)
    batch.features = None
    batch.input_ids.clamp_(min=0)
    with FlopCounterMode(display=False) as counted:
        model.loss(batch)[0].backward()
    expected = shape.training_flops(2, 40, answers)
    assert expected == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_the_shapes_are_those_of_the_models_that_they_are_named_after(gpu):
    # All weights that are no norm, as published: 6,738,415,616 and 1,100,048,384 in all.
    whole = gpu.FULL.small
    matrices = whole.weights + 2 * whole.width * whole.vocabulary
    norms = (2 * whole.layers + 1) * whole.width
    assert matrices + norms == 1_100_048_384
    large = gpu.FULL.large
    norms = (2 * large.layers + 1) * large.width
    assert large.weights + 2 * large.width * large.vocabulary + norms == 6_738_415_616
    assert gpu.FULL.blocks.weights * 8 == large.weights


def test_every_part_gives_a_figure(gpu, capsys):
    gpu.main(["--quick"])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 6
    assert not any("not measured" in line for line in said)
    for line, unit in zip(
        said,
        ("TFLOP/s$", r"tokens/s.*%", r"tokens/s.*%", "times that", "as fast", "graph's time"),
        strict=True,
    ):
        assert re.search(unit, line), line
    assert "(400 rows settled in float32)" in said[-1]


def test_a_part_for_which_no_time_is_left_says_so(gpu):
    figures = list(gpu.measure(gpu.QUICK, torch.device("cpu"), minutes=0.0))
    assert [figure.found.split(":")[0] for figure in figures[1:]] == ["not measured"] * 5


def test_figures_of_no_interest_are_not_written(gpu, tmp_path):
    with pytest.raises(SystemExit, match="measures nothing of interest"):
        gpu.main(["--quick", "--write", str(tmp_path / "performance.md")])
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="torch sees no GPU"):
            gpu.main([])


def test_the_page_has_one_section_a_device_and_no_longer_says_that_there_is_none(pages, tmp_path):
    path = tmp_path / "performance.md"
    text = (ROOT / "docs/performance.md").read_text()
    path.write_text(text)
    if "<!-- gpu: none -->" in text:
        assert "No GPU has been measured yet" in text
    for value in ("1", "2"):
        figures = [pages.Figure("product", f"{value} TFLOP/s")]
        pages.write(path, "NVIDIA B", pages.page("torch 9", "2000-01-01", figures))
    pages.write(path, "NVIDIA A", "Text.\n")
    written = path.read_text()
    assert "No GPU has been measured yet" not in written
    assert "| product | 2 TFLOP/s |" in written and "| product | 1 TFLOP/s |" not in written
    assert written.index("### NVIDIA A") < written.index("### NVIDIA B")
    assert written.startswith(text[: text.index("<!-- gpu:")])
    path.write_text("No section.\n")
    with pytest.raises(ValueError, match="has no section"):
        pages.write(path, "NVIDIA A", "Text.\n")


@pytest.mark.slow
def test_it_runs_where_only_torch_transformers_and_what_comes_with_them_are_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["workflow"], *extras["qlora"]]
    names = {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in wanted}
    absent = sorted(name for name in names if name.replace("_", "-") not in THERE)
    assert {"pydantic", "snakemake"} <= set(absent)
    script = str(SCRIPTS / "gpu.py")
    code = (
        f"import sys, runpy\nsys.modules.update(dict.fromkeys({absent!r}))\n"
        f"sys.argv = [{script!r}, '--quick']\nrunpy.run_path({script!r}, run_name='__main__')\n"
    )
    path = os.pathsep.join((str(ROOT / "workflow"), str(SCRIPTS)))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "graph's time" in done.stdout
