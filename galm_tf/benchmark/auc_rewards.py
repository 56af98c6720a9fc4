"""What suites have in common whose figures are AUCs on the whole validation set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from galm_tf.config import Config
from galm_tf.domains.domain import Domain
from galm_tf.errors import UserError


def by_auc(config: Config, suite: str) -> Config:
    """The settings with networks chosen by their AUC alone; raises UserError for rewards of another kind."""
    if config.reward != "auc" or config.reward_data != "full":
        raise UserError(
            f"Expected --reward=auc and --reward_data=full in suite {suite}, where networks are judged by their AUC on the "
            f"whole validation set. Received: reward={config.reward} and reward_data={config.reward_data}; leave both out."
        )
    return dataclasses.replace(config, size_penalty=0.0)


def expect_judged(judged: Iterable[bool], domain: Domain, by: str = "validation and test images") -> None:
    """Raises UserError where none of a domain's attributes can be judged; judged: which can, by these images."""
    if not any(judged):
        raise UserError(
            f"Expected an attribute of {domain.name} that {by} can judge. Received: none; give more images, or another split."
        )


def beside_children(config: Config, suite: str) -> Config:
    """As `by_auc`, beside networks that are trained from fresh weights, judged on all validation images and without a
    linear reading; raises UserError also for a search that starts from another run.
    """
    config = by_auc(config, suite)
    if config.source_run:
        raise UserError(
            f"Expected no --source_run in suite {suite}, where all start from nothing. Received: "
            f"source_run={','.join(config.source_run)}; leave it out."
        )
    return dataclasses.replace(config, reward_images=0, readout_share=0.0)
