"""The one exception that stands for a user's mistake or a machine's trouble, not for a bug of ours; and its text."""


class FigleafError(Exception):
    """Something the user can mend: the message names the key or path, the value, and the way out.

    The command line prints it without a traceback and exits with 2.
    """


class RuntimeMissingError(FigleafError):
    """A library that is not installed here, so that something could not be looked at: nothing is wrong with it."""


def printable(text: str) -> str:
    """The text on one line, its control characters escaped: a file's name must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
