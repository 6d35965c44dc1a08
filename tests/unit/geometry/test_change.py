import numpy as np
import pytest

from layersight.geometry.change import relative_norm_of_difference


def test_change_is_relative_to_the_reference():
    reference = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=np.float32)
    new = np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 6.0], [1.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(relative_norm_of_difference(reference, new), [0, 1, 2, np.nan])


def test_float16_does_not_overflow():
    reference = np.full((2, 4), 3e4, dtype=np.float16)
    np.testing.assert_allclose(relative_norm_of_difference(reference, -reference), 2)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="share one shape"):
        relative_norm_of_difference(np.ones((3, 2)), np.ones((2, 2)))
