"""The errors a user is meant to read: one line, naming what was wrong and what would be right."""


class UsageError(ValueError):
    """What was typed is wrong. Printed as one line; the process ends with status 2."""


class DataError(RuntimeError):
    """A dataset is missing or damaged. Printed as it is; the process ends with status 2."""


class StoreError(RuntimeError):
    """The output folder cannot be used. Printed as it is; the process ends with status 2."""


class InterruptedBySignal(KeyboardInterrupt):
    """A signal to end was received. `signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number
