"""The one error that people see, the check that many share, the end of a run that was asked for."""

__all__ = ["InputError", "Interrupted", "check_share"]


class InputError(ValueError):
    """Something given to impasto is wrong; the message says in one line what, where and what to do.

    The command line prints it without a traceback and ends with exit code 2.
    """


class Interrupted(Exception):
    """The run was asked to end; its checkpoint is of the last step. Holds the steps done."""


def check_share(name: str, value: float) -> None:
    """Raise InputError unless ``value`` is within 0..1."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} = {value}: must be a share, 0..1")
