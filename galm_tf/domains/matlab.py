"""Reading MATLAB files (up to version 7) and the strings and numbers in them."""

from __future__ import annotations

import numpy as np
import scipy.io
import scipy.sparse

from galm_tf.errors import UserError

_WHOLE = 2**53  # below it every whole number is exact


def read_strings(path: str, name: str) -> list[str]:
    """A variable of a file, a cell array of strings, of any nesting, or a padded character matrix, as a list.

    Raises UserError for a damaged file, and for a variable that is missing or of another kind.
    """
    cells, kind = _read_variable(path, name)
    if kind not in ("cell", "char"):
        raise UserError(
            f"Expected text in the variable {name} of {path}. Received: a variable of class {kind}; download the file anew, or save "
            f"{name} as a cell array."
        )
    result = []
    for cell in cells.ravel():
        while isinstance(cell, np.ndarray):
            cell = cell.ravel()[0] if cell.size else ""
        result.append(str(cell).strip())
    return result


def read_numbers(path: str, name: str) -> np.ndarray:
    """A variable of a file, a matrix of any numbers, sparse or not: float64 of its shape.

    Raises UserError for a damaged file, and for a variable that is missing or of another kind.
    """
    return _numbers(path, name, *_read_variable(path, name))


def read_indices(path: str, name: str) -> np.ndarray:
    """A variable of a file, a matrix of whole numbers: int64 [n].

    Raises UserError as `read_numbers`, and for a mask.
    """
    variable, kind = _read_variable(path, name)
    if kind == "logical":
        raise UserError(
            f"Expected image numbers in the variable {name} of {path}. Received: a variable of class logical; save find({name}) "
            "in its place."
        )
    values = _numbers(path, name, variable, kind).ravel()
    wrong = values[~(np.abs(values) < _WHOLE) | (values != np.round(values))]
    if len(wrong):
        raise UserError(
            f"Expected whole numbers in the variable {name} of {path}. Received: {wrong[0]:g}; download the file anew."
        )
    return values.astype(np.int64)


def _numbers(path: str, name: str, variable, kind: str) -> np.ndarray:
    values = variable.toarray() if scipy.sparse.issparse(variable) else variable
    if values.dtype.kind not in "biuf":
        what = "complex numbers" if values.dtype.kind == "c" else f"a variable of class {kind}"
        raise UserError(
            f"Expected real numbers in the variable {name} of {path}. Received: {what}; download the file anew, or save {name} as a "
            "matrix of class double."
        )
    return values.astype(np.float64)


def _read_variable(path: str, name: str):
    """(the variable, its class in MATLAB's words)."""
    try:
        content = scipy.io.loadmat(path, variable_names=[name])
        kinds = {its: kind for its, _, kind in scipy.io.whosmat(path)}
    except NotImplementedError as error:  # SciPy reads no HDF5
        raise UserError(
            f"Expected a MATLAB file of version 7 or before. Received: {path} of version 7.3; save it by save -v7 in MATLAB."
        ) from error
    except Exception as error:  # SciPy raises many kinds for a damaged file
        raise UserError(f"Expected a MATLAB file. Received: {path} ({error}); download it anew.") from error
    if name not in content:
        raise UserError(f"Expected the variable {name} in {path}. Received: {sorted(kinds)}; download it anew.")
    return content[name], kinds[name]
