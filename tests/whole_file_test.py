import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_CODE = """
import os, sys
os.umask(int(sys.argv[1], 8))
from galm_tf.whole_file import whole_file, whole_folder
with whole_file("file") as partial:
    open(partial, "w").write("whole")
with whole_folder("folder") as partial:
    open(os.path.join(partial, "inside"), "w").close()
"""


@pytest.mark.skipif(os.name == "nt", reason="rights are of POSIX")
@pytest.mark.parametrize("umask, rights", [("077", (0o600, 0o700)), ("002", (0o664, 0o775))])
def test_files_have_the_rights_that_the_user_gives_new_ones(tmp_path, umask, rights):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", _CODE, umask], cwd=tmp_path, env=environment, check=True)
    assert tuple(stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("file", "folder")) == rights
    assert (tmp_path / "file").read_text() == "whole" and os.listdir(tmp_path / "folder") == ["inside"]
