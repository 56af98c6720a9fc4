"""What --help prints: what a command does, its own flags, then the settings of a run by what they are about."""

from __future__ import annotations

import inspect
import sys
import textwrap
from typing import Iterable

from absl import app, flags

from galm_tf import config

_WIDTH = 110
_PACKAGE = "galm_tf"


class HelpFlag(app.HelpFlag):
    """--help, in place of absl's, which shows all flags of a command by the alphabet."""

    def __init__(self) -> None:
        super().__init__()
        self.allow_override = True

    def parse(self, arg) -> None:
        """Prints and exits where it was given."""
        if self._parse(arg):
            print(text())
            raise SystemExit


def text() -> str:
    """The help of the running command."""
    about = inspect.cleandoc(sys.modules["__main__"].__doc__ or "")
    defined = list(_defined())
    groups = {"Flags of this command": [name for name in defined if not config.is_setting(flags.FLAGS[name])]}
    for title, names in config.grouped().items():
        groups[title] = [name for name in names if name in defined and name not in groups["Flags of this command"]]
    parts = [about, *(_group(title, names) for title, names in groups.items())]
    return (
        "\n\n".join(filter(None, parts))
        + "\n\n--flagfile=FILE reads flags from a file; --helpfull tells of all flags, also those of libraries."
    )


def _defined() -> Iterable[str]:
    """Names of the flags of the running module and of the package's, in the order of their definition; --helpfull shows
    others too.
    """
    for module, found in flags.FLAGS.flags_by_module_dict().items():
        if module == sys.argv[0] or module.split(".")[0] == _PACKAGE:
            yield from (flag.name for flag in found)


def _group(title: str, names: Iterable[str]) -> str:
    """A group's flags under its title; "" of an empty one."""
    shown = [_flag(flags.FLAGS[name]) for name in names]
    return "\n".join([f"{title}:", *shown]) if shown else ""


def _flag(flag: flags.Flag) -> str:
    kind = "[no]" if flag.boolean else ""
    default = (
        str(flag.default).lower()
        if flag.boolean
        else ",".join(flag.default)
        if isinstance(flag.default, list)
        else flag.default
    )
    head = f"  --{kind}{flag.name}" + (f" (default: {default})" if default not in ("", None) else "")
    body = textwrap.fill(
        " ".join(flag.help.split()),  # absl's own words have gaps
        _WIDTH,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"{head}\n{body}"
