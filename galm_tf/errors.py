"""The one exception that a user's mistake raises.

Its message is a single sentence saying what was expected, what was received,
where, and how to repair it. Entry modules print it without a traceback and
exit with status 2; anything else that escapes is a bug.
"""


class UserError(ValueError):
    """Input that the user can repair: a flag, a file, a folder or a data set."""
