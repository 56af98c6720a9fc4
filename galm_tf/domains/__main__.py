"""Describes a data set before anything is trained on it.

    python -m galm_tf.domains --data_dir=DIR
    python -m galm_tf.domains --domain=awa,apay --data_dir=A,B --format=json

Prints counts, split, prevalences, attributes that cannot be learned, judged or
tested, and unreadable images, which are left out whatever --on_bad_image says;
writes them and a contact sheet to --out.
"""

from __future__ import annotations

from galm_tf import command_line  # first: it quiets TensorFlow's start

import dataclasses
import json
import logging
import os

from absl import flags

from galm_tf import config as config_lib
from galm_tf.begun import expect_writable
from galm_tf.config import Config
from galm_tf.domains import load_domains
from galm_tf.domains.describe import Description, describe, to_json, to_text
from galm_tf.domains.splits import make_split
from galm_tf.errors import UserError
from galm_tf.quiet_start import import_tensorflow
from galm_tf.whole_file import whole_file


def define_flags() -> None:
    """The settings of a run, and what only this command knows."""
    config_lib.define_flags()
    flags.DEFINE_string(
        "out",
        "",
        "Folder for contact_sheet.png, prevalence.csv and description.json; runs/<domain>-description when left out.",
    )
    flags.DEFINE_enum("format", "text", ["text", "json"], "How the description is printed: text, or json.")


def main(arguments: list[str]) -> None:
    values = flags.FLAGS
    if arguments[1:]:
        raise UserError(f"Expected flags only. Received: {arguments[1]}; name a folder by --data_dir={arguments[1]}.")
    config = _settings(values)
    logging.getLogger("galm_tf.domains.load").setLevel(logging.ERROR)  # its notes are in the description
    domain = load_domains(config)
    folder = values.out or os.path.join("runs", f"{domain.name}-description")
    expect_writable(folder)
    import_tensorflow()  # it takes seconds to start: only now, since a wrong folder should be told at once
    from galm_tf.domains.contact_sheet import contact_sheet
    from galm_tf.image_cache import load_images

    domain, images, bad = load_images(domain, config)
    split = make_split(domain, config)
    description = describe(domain, split, bad)
    paths = _write(folder, description, contact_sheet(domain, split, images, config.seed))
    if values.format == "json":
        print(json.dumps({**to_json(description), "files": paths}, indent=1, ensure_ascii=False))
    else:
        print("\n".join([to_text(description), "", "Look at it: " + paths["contact_sheet"]]))


def _settings(values: flags.FlagValues) -> Config:
    """The flags as a Config that skips, and so counts, every bad image."""
    return dataclasses.replace(config_lib.from_flags(values), on_bad_image="skip")


def _write(folder: str, description: Description, sheet) -> dict[str, str]:
    """Writes the three files, each whole; returns what each is -> its path."""
    names = {"contact_sheet": "contact_sheet.png", "attributes": "prevalence.csv", "description": "description.json"}
    paths = {kind: os.path.join(folder, name) for kind, name in names.items()}
    try:
        with whole_file(paths["contact_sheet"]) as path:
            sheet.save(path, format="PNG")
        with whole_file(paths["attributes"]) as path:
            description.attributes.to_csv(path)
        with (
            whole_file(paths["description"]) as path,
            open(path, "w", encoding="utf-8", errors="backslashreplace") as file,
        ):
            json.dump(to_json(description), file, indent=1, ensure_ascii=False)
    except OSError as error:
        raise UserError(
            f"Expected a folder that can be written. Received: out={folder} ({error.strerror}); name another by --out."
        ) from error
    return paths


if __name__ == "__main__":
    define_flags()
    command_line.run(main)
