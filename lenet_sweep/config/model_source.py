"""The source of a user's model: where it is imported from, and a digest that identifies its code.

The digest is part of a cell, so that a changed model never gets the results of another one. Where
the code is does not change any result: it goes with a run to its worker and is not stored.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

_INSTALLED = {"site-packages", "dist-packages"}  # folders of installed packages
# Never part of a digest, even if they are imported from a checkout.
_IGNORED = ("lenet_sweep", "hydra_plugins", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class ModelLocation:
    """Where the class of a model can be imported from, also in another process or on a node.

    module: its full name. class_name: of the class in it. file: for a module that is loaded from
    its file, such as a script, instead of by name. before_line: only the statements of the file
    before this line are executed, since this is where the script started its sweep. folders: the
    entries of sys.path that the module and its imports need. digest: of their source.
    """

    module: str
    class_name: str
    file: str | None
    before_line: int | None
    folders: Sequence[str]
    digest: str


def locate(
    module: str, class_name: str, path: Path, *, by_file: bool, before_line: int | None = None
) -> ModelLocation:
    """The location of a class in a module at `path`, with the digest of the source as it is now.

    by_file: whether the module is loaded from its file. The digest covers the name of the class,
    the file, and the modules that it imports, recursively, from outside of installed packages and
    the standard library; of an installed package, those of its own modules. Imports are found in
    the text, not by running it. Raises OSError or SyntaxError for a file that cannot be read.
    """
    name = "" if by_file else module
    sources = _Sources(own_package=name.partition(".")[0])
    root = source_before(path, before_line)
    if name:
        sources.add_module(name.rpartition(".")[0])
    sources.add_imports(root, package=_package_of(name, path))
    sources.found.pop(name, None)  # one of its imports may import it, too
    lines = [class_name, _sha256(root)]
    lines += [f"{name} {digest}" for name, digest in sorted(sources.found.items())]
    if name:
        sources.folders[_folder_of(name, path)] = None
    folders = [*([str(path.parent)] if by_file else []), *sources.folders]
    return ModelLocation(
        module=module,
        class_name=class_name,
        file=str(path) if by_file else None,
        before_line=before_line,
        folders=tuple(dict.fromkeys(folders)),
        digest=_sha256("\n".join(lines)),
    )


def relocate(location: ModelLocation, path: Path) -> ModelLocation:
    """The location of the same class as its module, imported from `path`, is now."""
    return locate(
        location.module,
        location.class_name,
        path,
        by_file=location.file is not None,
        before_line=location.before_line,
    )


def source_before(path: Path, line: int | None) -> str:
    """The source in a file, up to the statement at `line` if one is given.

    Line ends are those of Unix, so that the digest is the same on all systems.
    """
    text = importlib.util.decode_source(path.read_bytes())
    if line is None:
        return text
    starts = (node.lineno for node in ast.parse(text).body if (node.end_lineno or 0) >= line)
    return "\n".join(text.split("\n")[: next(starts, line) - 1])


class _Sources:
    """The digests of modules by name, without those of installed packages.

    folders: the entries of sys.path that contain them, in the order in which they were found.
    """

    def __init__(self, own_package: str) -> None:
        self.found: dict[str, str] = {}
        self.folders: dict[str, None] = {}
        self._own_package = own_package
        self._visited = {""}

    def add_imports(self, source: str, package: str) -> None:
        """Add the modules that a source imports, anywhere in its code."""
        for name in _imported_names(ast.parse(source), package):
            self.add_module(name)

    def add_module(self, name: str) -> None:
        """Add a module, the packages that it is in, and what they import."""
        search: list[str] | None = None
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            spec = self._find(".".join(parts[:end]), search)
            if spec is None:
                return
            search = list(spec.submodule_search_locations or ())

    def _find(self, name: str, search: list[str] | None) -> ModuleSpec | None:
        """The spec of a module if its source counts; a new one is added."""
        first = name.partition(".")[0]
        if not first or first in sys.stdlib_module_names or first in _IGNORED:
            return None
        spec = _find_spec(name, search)
        if spec is None:
            return None
        if spec.origin is None or not spec.has_location:  # a namespace package
            return spec if spec.submodule_search_locations is not None else None
        path = Path(spec.origin).absolute()
        if not path.is_file() or (first != self._own_package and _is_installed(path)):
            return None
        if name not in self._visited:
            self._visited.add(name)
            self.folders[_folder_of(name, path)] = None
            if path.suffix == ".py":
                source = source_before(path, None)
                self.found[name] = _sha256(source)
                self.add_imports(source, _package_of(name, path))
            else:
                self.found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return spec


def _find_spec(name: str, search: list[str] | None) -> ModuleSpec | None:
    """As importlib.util.find_spec, but without importing the packages that a module is in."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find and (spec := find(name, search)) is not None:
            return spec  # type: ignore[no-any-return] # finders have no common class
    return None


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to an installed package or to the standard library."""
    standard = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    return not _INSTALLED.isdisjoint(path.parts) or any(map(path.is_relative_to, standard))


def _imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """The names of modules that may be imported: of `from a import b`, these are a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".") if package else []
            relative = parents[: len(parents) - node.level + 1] if node.level else []
            name = ".".join([*relative, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names if alias.name != "*")


def _package_of(name: str, path: Path) -> str:
    """The package that relative imports of a module start from."""
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def _folder_of(name: str, path: Path) -> str:
    """The entry of sys.path from which a module at this path has this name."""
    depth = name.count(".") + (path.name == "__init__.py")
    return str(path.parents[depth])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
