"""Reading MATLAB files (up to version 7.2) and the strings in them."""

from __future__ import annotations

import numpy as np
import scipy.io

from galm_tf.errors import UserError


def read_variables(path: str, *names: str) -> list[np.ndarray]:
    """The named variables of a file, nothing else of it; raises UserError for a damaged file or a missing one."""
    try:
        content = scipy.io.loadmat(path, variable_names=names)
        there = [name for name, _, _ in scipy.io.whosmat(path)]
    except Exception as error:  # SciPy raises many kinds for a damaged file
        raise UserError(f"Expected a MATLAB file. Received: {path} ({error}); download it anew.") from error
    for name in names:
        if name not in content:
            raise UserError(f"Expected the variable {name} in {path}. Received: {sorted(there)}; download it anew.")
    return [content[name] for name in names]


def strings(cells: np.ndarray) -> list[str]:
    """A cell array of strings, of any nesting, or a padded character matrix, as a list."""
    result = []
    for cell in cells.ravel():
        while isinstance(cell, np.ndarray):
            cell = cell.ravel()[0] if cell.size else ""
        result.append(str(cell).strip())
    return result
