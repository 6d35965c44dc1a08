import numpy as np
import pytest
from tests.unit.geometry.five_clouds import gaussian, one_massive_dimension, perturbed

from layersight.activations.store import ActivationStore, ActivationWriter
from layersight.errors import DataError
from layersight.geometry.graph_stages import find_neighbours
from layersight.geometry.imbalance import information_imbalance
from layersight.geometry.neighbours import nearest_neighbours
from layersight.geometry.shape_stages import (
    ALIGNMENT,
    MASSIVE,
    SPECTRUM,
    ShapeSettings,
    measure_alignment,
    measure_spectrum,
)
from layersight.geometry.spectrum import participation_ratio
from layersight.geometry.stages import PAIRS
from layersight.geometry.svcca import svcca
from layersight.storage.tables import read_table

IDS = [f"item-{i:03d}" for i in range(60)]
SETTINGS = ShapeSettings(resamples=3, permutations=3, ratio=500)


def store(folder, clouds, streams=("last",)):
    """Two layers: one vector for all items, then the cloud of each stream."""
    n, width = clouds[0].shape
    writer = ActivationWriter(folder, layers=2, width=width, dtype="float32", rows_per_part=1000)
    for cloud, stream in zip(clouds, streams, strict=True):
        layers = np.stack([np.ones((n, width)), cloud]).astype(np.float32)
        writer.add(IDS[:n], stream, [None] * n, layers)
    writer.flush()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return subject(tmp_path_factory.mktemp("base"), shift=0)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return subject(tmp_path_factory.mktemp("tuned"), shift=1)


def subject(folder, shift):
    """Activations and graphs of a subject whose texts are a noisy map of its images."""
    images = gaussian()[:60] + shift * np.random.default_rng(9).standard_normal((60, 40)) / 2
    texts = perturbed(images)[:, :40]
    store(folder / "a" / "pair_images", [images, images + 1], ["last", "image_mean"])
    store(folder / "a" / "pair_texts", [texts, texts + 1], ["last", "text_mean"])
    graphs = {}
    for probe in ("pair_images", "pair_texts"):
        graphs[probe] = folder / "graphs" / probe
        find_neighbours(
            subject="x", probe=probe, activations=folder / "a" / probe, k=59, out=graphs[probe],
            streams=["last", "image_mean", "text_mean"],
        )  # fmt: skip
    return folder / "a", graphs


def alignment(tmp_path, base, tuned=None, **settings):
    activations, graphs = tuned or base
    measure_alignment(
        subject="lora/seed-0", activations=activations, graphs=graphs, pairs=PAIRS,
        streams=["last", "image_mean", "text_mean"], settings=SETTINGS, seed=0,
        out=tmp_path / "out.parquet",
        **({"reference": "base", "reference_activations": base[0], "reference_graphs": base[1]}
           if tuned else {}),
    )  # fmt: skip
    return read_table(tmp_path / "out.parquet", ALIGNMENT).to_pandas()


def test_modalities_and_reference_are_compared_in_one_table(base, tuned, tmp_path, capsys):
    found = alignment(tmp_path, base, tuned)
    compared = found[["comparison", "probe", "reference_probe", "stream", "reference_stream"]]
    assert set(compared.itertuples(index=False, name=None)) == {
        ("image_text", "pair_images", "pair_texts", "image_mean", "text_mean"),
        ("image_text", "pair_images", "pair_texts", "last", "last"),
        ("tuned_base", "pair_images", "pair_images", "last", "last"),
        ("tuned_base", "pair_images", "pair_images", "image_mean", "image_mean"),
        ("tuned_base", "pair_texts", "pair_texts", "last", "last"),
        ("tuned_base", "pair_texts", "pair_texts", "text_mean", "text_mean"),
    }
    assert set(found[found["comparison"] == "image_text"]["reference"]) == {"lora/seed-0"}
    assert set(found[found["comparison"] == "tuned_base"]["reference"]) == {"base"}
    x = ActivationStore(tuned[0] / "pair_images").read(1, "last")[1]
    y = ActivationStore(base[0] / "pair_images").read(1, "last")[1]
    rows = found.query(
        "comparison == 'tuned_base' and probe == 'pair_images' and stream == 'last' and layer == 1"
    ).set_index("metric")["value"]
    assert rows["svcca"] == pytest.approx(svcca(x, y), rel=1e-9)
    tables = [nearest_neighbours(side, 59).indices for side in (x, y)]
    expected = information_imbalance(*tables)[0].mean()
    assert rows["imbalance_x_to_y"] == pytest.approx(expected, rel=1e-12)
    assert rows["dimension_correlation_p"] in (0.25, 0.5, 0.75, 1.0)
    assert rows.notna().all()
    first = found.query("layer == 0 and metric in ['svcca', 'imbalance_x_to_y']")
    assert first["value"].isna().all() and len(first) == 12
    assert "undefined (NaN): alignment of lora/seed-0, tuned_base" in capsys.readouterr().err


def test_without_a_reference_modalities_alone_are_compared(base, tmp_path):
    assert set(alignment(tmp_path, base)["comparison"]) == {"image_text"}


def test_draws_do_not_depend_on_the_subject(base, tmp_path):
    assert alignment(tmp_path, base).equals(alignment(tmp_path, base))


def test_sides_with_other_items_are_named(base, tmp_path):
    activations, graphs = base
    store(tmp_path / "a" / "pair_images", [gaussian()[:59]])
    with pytest.raises(DataError, match=r"pair_images and .*pair_images: .*different items"):
        measure_alignment(
            subject="x", activations=tmp_path / "a", graphs={"pair_images": graphs["pair_images"]},
            pairs=(), streams=["last"], settings=SETTINGS, seed=0, out=tmp_path / "out.parquet",
            reference="base", reference_activations=activations, reference_graphs=graphs,
        )  # fmt: skip


def test_spectrum_and_massive_activations_of_all_probe_sets(tmp_path):
    clouds = {"a": gaussian()[:60], "b": one_massive_dimension()[:60]}
    for probe, cloud in clouds.items():
        store(tmp_path / "activations" / probe, [cloud])
    measure_spectrum(
        subject="base", activations=tmp_path / "activations", probes=["a", "b"],
        streams=["last", "image_mean"], settings=SETTINGS, seed=0,
        out=tmp_path / "out.parquet", massive_out=tmp_path / "massive.parquet",
    )  # fmt: skip
    found = read_table(tmp_path / "out.parquet", SPECTRUM).to_pandas()
    values = found.query("probe == 'a' and layer == 1").set_index("metric")["value"]
    expected = participation_ratio(clouds["a"].astype(np.float32))
    assert values["participation_ratio"] == pytest.approx(expected, rel=1e-9)
    assert found.query("layer == 0 and metric == 'effective_rank'")["value"].isna().all()
    massive = read_table(tmp_path / "massive.parquet", MASSIVE).to_pandas()
    rows = massive.query("massive and layer == 1")
    assert rows[["probe", "dimension"]].to_numpy().tolist() == [["b", 7]]


def test_settings_that_cannot_be_are_refused():
    for settings in ({"k": 0}, {"permutations": 0}, {"fraction": 1.0}, {"most_items": 9}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            ShapeSettings(**settings)
