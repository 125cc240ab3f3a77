"""The errors a user is meant to read: one line, naming what was wrong and what would be right."""

import errno

# The place that was chosen cannot be used, so another command would help. Any other error of the
# operating system (disk full, I/O error, out of memory) is the machine's.
WRONG_PLACE = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM,
    errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
})  # fmt: skip


class UsageError(ValueError):
    """What was typed is wrong. Printed as one line; the process ends with status 2."""


class DataError(RuntimeError):
    """A dataset is missing or damaged. Printed as it is; the process ends with status 1."""


class DataFolderError(DataError, UsageError):
    """The folder that was named for a dataset does not hold one. Ends with status 2."""


class StoreError(RuntimeError):
    """The output folder cannot be used. Printed as it is; `exit_status` has the status."""


class InterruptedBySignal(KeyboardInterrupt):
    """A signal to end was received. `signal` is its number, `message` says what was kept."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or number)
        self.signal = number


def exit_status(error: BaseException) -> int:
    """2 where the command is wrong, 1 where it is right but this machine could not carry it out."""
    if isinstance(error, UsageError):
        return 2
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    wrong = isinstance(cause, FileNotFoundError) or getattr(cause, "errno", None) in WRONG_PLACE
    return 2 if wrong and not isinstance(error, DataError) else 1
