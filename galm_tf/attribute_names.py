"""Attributes are called `domain/attribute`; a user may leave the domain out."""

from __future__ import annotations

import difflib
import hashlib
import re
import shlex
import unicodedata
from typing import Iterable, Optional, Sequence

from absl import flags

from galm_tf.config import as_flag
from galm_tf.errors import UserError
from galm_tf.words import listed

_KNOWN = 5  # attributes that a message names where none is spelt like the one asked for


def without_domain(name: str) -> str:
    """`sun/natural light` -> `natural light`."""
    return name.split("/", 1)[-1]


def domain_of(name: str) -> str:
    """`sun/natural light` -> `sun`."""
    return name.split("/", 1)[0]


def plain(name: str) -> str:
    """As an attribute or a class is called whatever its domain, and however written: `awa/polar+bear` -> `polar
    bear`.
    """
    return re.sub(r"[\W_]+", " ", without_domain(name).lower()).strip()


def namesakes(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Those of the names that one of the others, of another domain, is called like, in their order by the alphabet."""
    called: dict[str, set[str]] = {}  # name -> the domains in which something is called so
    for other in others:
        called.setdefault(plain(other), set()).add(domain_of(other))
    return sorted(name for name in names if called.get(plain(name), set()) - {domain_of(name)})


def respelt(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Those of the names that one of the others, of the same domain, is called like, however written -> that one."""
    called = {(domain_of(other), plain(other)): other for other in sorted(others, reverse=True)}
    keys = {name: (domain_of(name), plain(name)) for name in names}
    return {name: called[key] for name, key in keys.items() if key in called and key[1]}  # not of marks alone


def places(asked: str, names: Sequence[str]) -> list[int]:
    """Where the names are that a user may mean by one: in full, or else without its domain; accents composed or not."""
    wanted, known = _composed(asked), list(map(_composed, names))
    whole = [i for i, name in enumerate(known) if name == wanted]
    return whole or [i for i, name in enumerate(known) if without_domain(name) == wanted]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _nearest(asked: str, names: Sequence[str]) -> Optional[str]:
    """What is spelt much like it, with or without a domain; None where no name is."""
    every = [*names, *map(without_domain, names)]
    # its name has a comma, at which a list of names was parted
    parted = [name for name in every if name.startswith(f"{asked},")]
    folded = {name.casefold(): name for name in reversed(every)}
    alike = difflib.get_close_matches(asked.casefold(), folded, 1)
    return next(iter([*parted, *(folded[name] for name in alike)]), None)


def repair(asked: str, names: Sequence[str], flag: str) -> str:
    """What to give a flag in place of a name that is not known: the nearest known one, else some of them."""
    near = _nearest(asked, names)
    if near is not None:
        return f"did you mean {as_given(flag, near)}?"
    return f"known: {listed([as_given(flag, name) for name in names], _KNOWN)}."


def file_name(name: str) -> str:
    """A name for files and folders, of one attribute alone: `sun/trees` -> `sun-trees`; a digest tells apart what would
    read alike.
    """
    readable = re.sub(r"[^\w.]", "-", name)
    if re.fullmatch(r"\w+/\w+", name):
        return readable
    return f"{readable[:100]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def asked_for(values: flags.FlagValues) -> list[str]:
    """What --attributes names, nothing where it was left out; raises UserError where it was given and names none."""
    if values["attributes"].present and not any(values.attributes):
        raise UserError(
            "Expected names in --attributes. Received: --attributes=, which names none; name some, or leave it out for all."
        )
    return values.attributes


def columns(asked: Sequence[str], names: Sequence[str]) -> list[int]:
    """Where the attributes of --attributes are, in the order asked for; all where none is asked for.

    Raises:
      UserError: one that is not known, or that two domains have.
    """
    found = []
    for name in filter(None, asked):
        its = places(name, names)
        if len(its) > 1:
            raise UserError(
                f"Expected --attributes with their domain where several have one. Received: {name}, which is {' and '.join(names[i] for i in its)}."
            )
        if not its:
            raise UserError(
                f"Expected --attributes that the model knows. Received: {name}; {repair(name, names, 'attributes')}"
            )
        found += its
    return list(dict.fromkeys(found)) or list(range(len(names)))


def as_given(flag: str, name: str) -> str:
    """A name as a user gives it: as it is, or, where a comma would part it or quotes would go, the whole flag with the
    quotes that a shell leaves.
    """
    return shlex.quote(as_flag(flag, [name])) if set(name) & set(',"') else name
