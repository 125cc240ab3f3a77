"""A small dataset in place of MNIST, a mirror that serves it, and helpers for tests."""

import contextlib
import gzip
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from generated_data import FILE_NAMES, idx_bytes, learnable

from lenet_sweep.data.catalog import DatasetSpec, File, Wheel
from lenet_sweep.data.images import Images

SMALL = learnable(train=30, test=20, seed=1)
ARCHIVES = {name: gzip.compress(content, mtime=0) for name, content in SMALL.items()}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def small_spec(
    *mirrors: str, wheel: Wheel | None = None, with_sha256: bool = True, folder: str = "MNIST"
) -> DatasetSpec:
    """The catalog entry of SMALL."""
    return DatasetSpec(
        folder=folder,
        mirrors=mirrors,
        files=tuple(
            File(name, md5(ARCHIVES[name]), sha256(SMALL[name]) if with_sha256 else None)
            for name in FILE_NAMES
        ),
        wheel=wheel,
        train_count=30,
    )


def put(folder: Path, files: dict[str, bytes], suffix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}{suffix}").write_bytes(content)
    return folder


def files_under(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def assert_small(images: Images) -> None:
    assert idx_bytes(images.train_images) == SMALL[FILE_NAMES[0]]
    assert idx_bytes(images.train_labels) == SMALL[FILE_NAMES[1]]
    assert idx_bytes(images.test_images) == SMALL[FILE_NAMES[2]]
    assert idx_bytes(images.test_labels) == SMALL[FILE_NAMES[3]]


@dataclass
class RecordedProgress:
    """Records the displayed lines and transfers."""

    lines: list[str] = field(default_factory=list)
    transfers: list[tuple[str, int | None, list[int]]] = field(default_factory=list)

    def on_message(self, line: str) -> None:
        self.lines.append(line)

    @contextlib.contextmanager
    def transfer(self, what: str, total: int | None) -> Iterator[Callable[[int], object]]:
        counts: list[int] = []
        self.transfers.append((what, total, counts))
        yield counts.append


class Mirror:
    """A local HTTP server. Each path has a list of answers; the last one is repeated."""

    def __init__(self) -> None:
        self.answers: dict[str, list[bytes]] = {}
        self.requested: list[str] = []
        self.withheld = 0  # bytes that are announced but never sent
        self.speaks_http = True
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requested.append(self.path)
                if not mirror.speaks_http:
                    self.wfile.write(b"220 ready\r\n")
                    return
                answers = mirror.answers.get(self.path)
                if not answers:
                    self.send_error(404)
                    return
                content = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - mirror.withheld])

            def log_message(self, *_: object) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def serve(self, prefix: str = "") -> str:
        """Serve the archives of SMALL under `prefix`."""
        self.answers |= {f"/{prefix}{name}.gz": [ARCHIVES[name]] for name in FILE_NAMES}
        return f"{self.url}{prefix}"
