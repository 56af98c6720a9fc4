"""Checks of the lists that a command was given, before anything is run."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from galm_tf.errors import UserError
from galm_tf.words import choice_repair


def expect_names(flag: str, values: Sequence[str], known: Collection[str]) -> None:
    """Raises UserError for a list that names nothing, something unknown or something twice."""
    wrong = next((value for value in values or [""] if value not in known), None)
    if wrong is not None:
        raise UserError(
            f"Expected --{flag} to be some of {', '.join(known)}. Received: {wrong or 'none'}; {choice_repair(wrong, known)}."
        )
    expect_once(flag, values)


def expect_once(flag: str, values: Sequence[Any]) -> None:
    """Raises UserError for a list that holds something twice."""
    again = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if again is not None:
        raise UserError(
            f"Expected --{flag} to name each once. Received: {flag}={','.join(map(str, values))}; leave out the second {again}."
        )


def whole_numbers(flag: str, texts: Sequence[str], low: int, else_: str = "") -> list[int]:
    """The numbers of a list; raises UserError for other text, one below `low`, or one that is there twice.

    else_: what else could be done where one is below, to follow "give 0 or more".
    """
    whole = all(re.fullmatch("-?[0-9]+", text) for text in texts)
    numbers = [int(text) for text in texts] if whole else []
    if not whole or any(number < low for number in numbers):
        raise UserError(
            f"Expected --{flag} to be whole numbers from {low}. Received: {flag}={','.join(texts) or 'none'}; "
            + (f"give {low} or more{else_}." if whole else "separate them by commas.")
        )
    expect_once(flag, numbers)
    return numbers


def numbers(flag: str, texts: Sequence[str], low: float) -> list[float]:
    """The numbers of a list, which may be empty; raises UserError for other text, one that is not above `low`, or one
    that is there twice, as far as it is shown.
    """
    try:
        found, repair = [float(text) for text in texts], f"give some above {low:g}"
    except ValueError:
        found, repair = [float("nan")], "separate them by commas, and write decimal points"
    if not all(low < value < float("inf") for value in found):
        raise UserError(f"Expected --{flag} to be numbers above {low:g}. Received: {flag}={','.join(texts)}; {repair}.")
    expect_once(flag, [f"{value:g}" for value in found])
    return found
