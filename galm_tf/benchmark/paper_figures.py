"""Test mAUC of the paper's Tables 2 and 3, as fractions. Other images and features than ours: for orientation only."""

from __future__ import annotations

_DOMAINS = ("awa", "apay", "sun")

TABLE_2 = {
    (row, column): value / 100
    for row, values in {
        "dap": (72.8, 77.4, 81.4),
        "iap": (74.1, 78.1, 81.9),
        "ale": (65.7, 69.2, 74.5),
        "hap": (74.2, 58.2, 76.7),
        "umf": (76.7, 79.7, 80.5),
        "mdg": (82.2, 82.3, 85.8),
        "amt": (85.5, 84.5, 82.5),
        "fmt": (72.2, 70.5, 75.5),
        "galm": (86.5, 84.2, 86.5),
    }.items()
    for column, value in zip(_DOMAINS, values)
}

# GALM's row of Table 3: (names of the sources, target) -> test mAUC.
TABLE_3 = {
    (frozenset(_DOMAINS[s] for s in sources), _DOMAINS[target]): value / 100
    for sources, target, value in (
        ((0,), 1, 87.0),
        ((0,), 2, 89.9),
        ((1,), 0, 90.9),
        ((1,), 2, 89.3),
        ((2,), 0, 90.2),
        ((2,), 1, 87.8),
        ((0, 1), 2, 91.9),
        ((0, 2), 1, 91.2),
        ((1, 2), 0, 90.7),
        ((0, 1, 2), 0, 92.5),
        ((0, 1, 2), 1, 94.5),
        ((0, 1, 2), 2, 93.4),
    )
}
