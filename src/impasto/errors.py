"""The one error that people see."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something given to impasto is wrong; the message says in one line what, where and what to do.

    The command line prints it without a traceback and ends with exit code 2.
    """
