"""Command lines as `python -m galm_tf.main` reads them."""

from absl import flags
from absl.testing import flagsaver

from galm_tf import command_line, main
from galm_tf import config as config_lib
from galm_tf.config import Config


def settings(*arguments: str) -> Config:
    """The settings that they ask for."""
    _define()
    with flagsaver.flagsaver():
        command_line.parse_flags(["galm_tf.main", *arguments])
        return main.settings(flags.FLAGS)


def call(*arguments: str) -> None:
    """Runs the command."""
    _define()
    with flagsaver.flagsaver():
        main.main(command_line.parse_flags(["galm_tf.main", *arguments]))


def _define() -> None:
    if "image_size" not in flags.FLAGS:
        config_lib.define_flags()
