"""The one error that people see, and the end of a run that they asked for."""

__all__ = ["InputError", "Interrupted"]


class InputError(ValueError):
    """Something given to impasto is wrong; the message says in one line what, where and what to do.

    The command line prints it without a traceback and ends with exit code 2.
    """


class Interrupted(Exception):
    """The run was asked to end; its checkpoint is of the last step. Holds the steps done."""
