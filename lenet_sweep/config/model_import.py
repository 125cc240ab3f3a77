"""Imports the modules of users' models: in the process of the sweep, and in its workers.

A worker does not execute a whole script, such as `python script.py`: only the statements before the
one that called `sweep`. A script with a model therefore needs no main guard.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from lenet_sweep.config.model_source import ModelLocation, relocate, source_before
from lenet_sweep.core.errors import ModelError, UsageError
from lenet_sweep.core.text import one_line, to_str

MOVE = "move the class to a separate file, such as my_model.py, and import it from there"
SCRIPT = "__mp_main__"  # the name of a script in a worker, as in those of multiprocessing

_importing: list[str] = []  # the classes that this worker is importing
_first_calls: list[int | None] = []  # the line of the script that called `sweep` first
_classes: dict[str, type] = {}  # by digest; those that this worker has imported


def import_module(name: str, subject: str, path: Path | None = None) -> ModuleType:
    """Import a module, from its file if `path` is given.

    subject: starts the message. Raises UsageError, one line, for any error in the module.
    """
    try:
        return importlib.import_module(name) if path is None else _import_file(name, path)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{subject} cannot be imported: {_describe(error)}") from error


def _import_file(name: str, path: Path, before_line: int | None = None) -> ModuleType:
    """Execute a file as the module `name`, up to the statement at a line if one is given."""
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        code = compile(source_before(path, before_line), str(path), "exec")
        exec(code, module.__dict__)  # noqa: S102 - what importing it does
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _describe(error: BaseException) -> str:
    """The error and where it was raised: 'NameError: name 'x' is not defined (my_model.py:3)'."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return one_line(f"{type(error).__name__}: {to_str(error)}") + place


def import_class(location: ModelLocation) -> Any:
    """The class of a model, in a worker.

    Raises ModelError if it cannot be imported, or if its source is not that of the sweep.
    """
    if location.digest not in _classes:
        path = [folder for folder in location.folders if folder not in sys.path]
        sys.path[:0] = path
        with _marked_as_importing(location.class_name):
            _classes[location.digest] = _import_class(location)
    return _classes[location.digest]


def _import_class(location: ModelLocation) -> Any:
    name = location.class_name
    try:
        if location.file is None:
            module = importlib.import_module(location.module)
        else:
            module = _import_file(location.module, Path(location.file), location.before_line)
        found = relocate(location, Path(str(module.__file__)))
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        hint = f"; {MOVE}" if location.module == SCRIPT else ""
        raise ModelError(f"model {name} cannot be imported: {_describe(error)}{hint}") from error
    if found.digest != location.digest:
        raise ModelError(
            f"model {name}: its source in {module.__file__}, or in a module that it imports, "
            "differs from the source at the start of the sweep; it was changed, or another file "
            "has this name; start the sweep again"
        )
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if value is None:
        raise ModelError(f"model {name}: {module.__file__} does not define it")
    return value


@contextmanager
def _marked_as_importing(name: str) -> Iterator[None]:
    _importing.append(name)
    try:
        yield
    finally:
        _importing.pop()


def note_sweep_call() -> None:
    """Remember where the script calls `sweep` first, if this is the first call.

    Raises ModelError in a worker that imports a model.
    """
    if _importing:
        raise ModelError(
            f"model {_importing[-1]} cannot be imported, because its file calls sweep(); {MOVE}"
        )
    if _first_calls:
        return
    line = None
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the way to walk up the stack
    while frame:
        code = frame.f_code
        if code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__":
            is_script = Path(code.co_filename).absolute() == script()
            line = frame.f_lineno if is_script else None
        frame = frame.f_back
    _first_calls.append(line)


def script() -> Path | None:
    """The file of the script that this process runs; None in a notebook, or with -c or -m."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return Path(file).absolute() if file and getattr(main, "__spec__", None) is None else None


def first_sweep_line() -> int | None:
    """The line of the script that called `sweep` first; None if none did."""
    return _first_calls[0] if _first_calls else None
