"""The data of a table or suite whose repetitions load them anew: they must stay as they were at its start."""

from __future__ import annotations

from galm_tf import data_digests, preparation
from galm_tf.config import Config
from galm_tf.domains import load_domains
from galm_tf.domains.domain import Domain
from galm_tf.errors import UserError


def changed_meanwhile(what: str, begun: str) -> UserError:
    """What is raised where a command finds others than it began with; begun: what it makes, such as `table in OUT`."""
    return UserError(
        f"Expected the {what} with which the {begun} was begun. Received: others; restore them and give the same command, "
        "or name another folder by --out."
    )


class SameData:
    """Tells of data that were changed while a command was at work.

    Args:
      begun: what the command makes, as of `changed_meanwhile`.

    Attributes:
      digests: of each domain by name, as it was when it was seen first (`data_digests.content_digests`).
    """

    def __init__(self, begun: str) -> None:
        self._begun = begun
        self.digests: dict[str, dict[str, str]] = {}

    def expect(self, domain: Domain) -> dict[str, str]:
        """Digests of a domain that was loaded; raises UserError where one of this name had others before."""
        now = data_digests.content_digests(domain)
        before = self.digests.setdefault(domain.name, now)
        changed = [what for what in now if now[what] != before.get(what)]
        if changed:
            raise changed_meanwhile(f"{changed[0]} of {domain.name}", self._begun)
        return now

    def prepare(self, config: Config) -> preparation.Prepared:
        """As `preparation.prepare`, of data that `expect` has looked at."""
        domain = load_domains(config)
        self.expect(domain)
        return preparation.prepare(config, domain)
