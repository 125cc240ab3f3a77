"""Errors with messages for the user, and the exit status that each of them gives."""

import errno
from signal import Signals

# Errors that mean the chosen path cannot be used, so that a different command would help. All other
# errors of the operating system (disk full, I/O error, out of memory) are the machine's.
WRONG_PLACE = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM,
    errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
})  # fmt: skip


class UsageError(ValueError):
    """The command or an argument is wrong. Printed as one line; the exit status is 2."""


class ModelError(UsageError):
    """A model of the user cannot be imported, created or trained."""


class DataError(RuntimeError):
    """A dataset is missing or damaged. Printed unchanged; the exit status is 1."""


class DataFolderError(DataError, UsageError):
    """The folder given for a dataset does not contain one. The exit status is 2."""


class StoreError(RuntimeError):
    """The output folder cannot be used. Printed unchanged; see `exit_status` for the status."""


class InterruptedBySignal(KeyboardInterrupt):
    """A signal ended the sweep. `signal` is its number; the message says what was saved."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or number)
        self.signal = number

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback, such as after the stop button of Jupyter."""
        (reason,) = self.args
        return [f"Interrupted by {reason if isinstance(reason, str) else Signals(reason).name}"]


def exit_status(error: BaseException) -> int:
    """2 if the command is wrong, 1 if it is right but this machine could not carry it out."""
    if isinstance(error, UsageError):
        return 2
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    wrong = isinstance(cause, FileNotFoundError) or getattr(cause, "errno", None) in WRONG_PLACE
    return 2 if wrong and not isinstance(error, DataError) else 1
