"""The one error that users are meant to see: a line that names the file and the cure. Raised anywhere, printed by the CLI."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, in which file, and what to do about it."""
