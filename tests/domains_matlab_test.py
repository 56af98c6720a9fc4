"""Variables of MATLAB files: of every kind that is read, and refused in one sentence."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from galm_tf.domains import matlab
from galm_tf.errors import UserError

NUMBERS = np.array([[2.0, 0.0, 3.0]])
CELLS = np.array([["a", "b"]], object)


def write(tmp_path, value, **settings) -> str:
    path = str(tmp_path / "file.mat")
    scipy.io.savemat(path, {"loc": value}, **settings)
    return path


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("value", [NUMBERS, NUMBERS.astype(np.uint16), scipy.sparse.csc_matrix(NUMBERS)])
def test_numbers_of_every_kind(tmp_path, value, version):
    path = write(tmp_path, value, format=version)
    read = matlab.read_numbers(path, "loc")
    np.testing.assert_array_equal(read, NUMBERS)
    assert read.dtype == np.float64
    indices = matlab.read_indices(path, "loc")
    assert indices.tolist() == [2, 0, 3] and indices.dtype == np.int64


def test_a_mask_counts_as_numbers_but_numbers_no_images(tmp_path):
    path = write(tmp_path, NUMBERS > 0)
    np.testing.assert_array_equal(matlab.read_numbers(path, "loc"), [[1, 0, 1]])
    with pytest.raises(UserError, match=r"variable loc of .*file\.mat\. Received: .*class logical; save find\(loc\)"):
        matlab.read_indices(path, "loc")


@pytest.mark.parametrize(
    ("value", "told"),
    [(CELLS, "of class cell"), ("abc", "of class char"), ({"a": 1}, "of class struct"), (NUMBERS + 1j, "complex")],
)
def test_variables_that_are_no_numbers(tmp_path, value, told):
    path = write(tmp_path, value)
    for read in (matlab.read_numbers, matlab.read_indices):
        with pytest.raises(UserError, match=rf"real numbers in the variable loc of .*file\.mat\. Received: .*{told}"):
            read(path, "loc")


@pytest.mark.parametrize("value", [1.5, np.nan, np.inf, 1e300])
@pytest.mark.filterwarnings("error")
def test_numbers_that_number_no_images(tmp_path, value):
    path = write(tmp_path, np.array([1.0, value]))
    told = re.escape(f"Received: {value:g};")
    with pytest.raises(UserError, match=rf"whole numbers in the variable loc of .*file\.mat\. {told}"):
        matlab.read_indices(path, "loc")


@pytest.mark.parametrize("value", [NUMBERS, scipy.sparse.csc_matrix(NUMBERS)])
def test_names_that_are_no_text(tmp_path, value):
    with pytest.raises(UserError, match=r"text in the variable loc of .*file\.mat\. Received: a variable of class "):
        matlab.read_strings(write(tmp_path, value), "loc")
    assert matlab.read_strings(write(tmp_path, CELLS), "loc") == ["a", "b"]


def test_a_file_of_version_7_3_is_to_be_saved_in_an_older_one(tmp_path):
    path = tmp_path / "file.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\0" * 384 + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(
        UserError, match=r"version 7 or before\. Received: .*file\.mat of version 7\.3; save it by save -v7"
    ):
        matlab.read_numbers(str(path), "loc")
