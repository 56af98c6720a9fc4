"""One self-contained page about a finished run, or about several side by side; rebuilt from run folders, and
from their data where these are there.

Nothing outside this package imports it. `python -m galm_tf.report RUN` is the command.
"""
