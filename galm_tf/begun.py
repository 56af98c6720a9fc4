"""A folder of many runs goes on with the settings that began it."""

from __future__ import annotations

import json
import os
from typing import Any, Mapping

from galm_tf.errors import UserError
from galm_tf.run_folder import changed_settings
from galm_tf.whole_file import whole_file


def expect_same_settings(path: str, asked: Mapping[str, Any]) -> None:
    """Writes the settings to a new JSON file, or compares them with those that are there.

    Raises:
      UserError: they differ; the first that does is named.
    """
    asked = json.loads(json.dumps(asked))
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with whole_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
            json.dump(asked, file, indent=1)
        return
    with open(path, encoding="utf-8") as file:
        changed = changed_settings(asked, json.load(file))
    for name, begun in changed.items():
        raise UserError(
            f"Expected the settings that {os.path.dirname(path)} was begun with. Received: {name}={asked[name]} now, "
            f"{begun} there; name another folder by --out."
        )
