"""The one exception that stands for a user's mistake or a machine's trouble, not for a bug of ours."""


class FigleafError(Exception):
    """Something the user can mend: the message names the key or path, the value, and the way out.

    The command line prints it without a traceback and exits with 2.
    """
