"""The web server: one page, one stream of events for each open page, and the details of cells.

It listens on the loopback interface only. Other users of the machine can connect to it, and so can
web pages that the user visits, so every request must
- come with the token, which only the printed URL has. The page gets it as a cookie whose path is a
  second secret, since browsers send cookies of a host to the servers on all of its ports.
- name this machine in its Host header. Otherwise a web page could reach the server under its own
  name (DNS rebinding).
Only GET and HEAD are answered, from a fixed list of pages; no part of a URL becomes a path.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lenet_sweep.serve.cell_details import CellDetails
from lenet_sweep.serve.feed import COMPARED, Feed
from lenet_sweep.serve.served_folder import RefusedError, ServedFolder

HOST = "127.0.0.1"
HOST_NAMES = frozenset({HOST, "localhost", "[::1]"})  # with any port: it may be forwarded by SSH
COOKIE = "lenet_sweep"
MAX_CONNECTIONS = 100
MAX_URL = 4096  # characters
MAX_HEADERS = 32 * 1024  # bytes of all headers of a request
REQUEST_TIMEOUT = 20.0  # seconds for a request to arrive, and for a part of the answer to be taken
PART = 64 * 1024  # bytes of an answer
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# report.html has inline scripts and may be anyone's: it is shown with an origin of its own.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class PageServer(ThreadingHTTPServer):
    """Serves a folder of sweeps on a port of the loopback interface; 0 chooses a free one.

    data_root: the folder of the test images; None for the user's cache. Raises OSError if the port
    is in use.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # elsewhere it lets two servers share a port
    request_queue_size = 64

    def __init__(self, folder: Path, port: int, data_root: Path | None = None) -> None:
        self.token = secrets.token_urlsafe(32)
        self.prefix = "/" + hashlib.sha256(f"path {self.token}".encode()).hexdigest()[:24] + "/"
        served = ServedFolder(folder.resolve())
        self.feed = Feed(served)
        self.details = CellDetails(served, data_root)
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """The URL of the page, with the token."""
        return f"http://{HOST}:{self.server_port}/?token={self.token}"

    def server_bind(self) -> None:
        # HTTPServer would look up the name of the host, which can take seconds.
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.allow_reuse_address)
        )
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = HOST, self.server_address[1]

    def serve_forever(self, poll_interval: float = 0.1) -> None:
        self.feed.start()
        super().serve_forever(poll_interval)

    def shutdown(self) -> None:
        self.feed.close()
        super().shutdown()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started, which would release it
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that are closed early are not worth a message."""


@cache
def _asset(name: str) -> bytes:
    """A file of the page, or the style sheet that it shares with report.html."""
    package = "lenet_sweep.report" if name == "style.css" else "lenet_sweep.serve"
    folder = "templates" if name == "style.css" else "static"
    return (files(package) / folder / name).read_bytes()


@cache
def _asset_names() -> frozenset[str]:
    static = files("lenet_sweep.serve") / "static"
    return frozenset({"style.css", *(path.name for path in static.iterdir())})


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_TIMEOUT
    server_version, sys_version = "lenet-sweep", ""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET  # noqa: N815 - http.server calls it

    def _answer(self) -> None:
        try:
            url = urlsplit(self.path)
            query = parse_qs(url.query, max_num_fields=20)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "The URL is not valid.")
            return
        if refusal := self._refusal(url.path):
            self._refuse(*refusal)
            return
        if url.path == "/":
            self._enter(query.get("token", [""])[0])
            return
        if not self._has_token() or not url.path.startswith(self.server.prefix):
            self._refuse(HTTPStatus.FORBIDDEN, "Open the URL that the server printed.")
            return
        page = url.path.removeprefix(self.server.prefix)
        try:
            if page == "events":
                self._stream(query.get("sweep", [])[:COMPARED])
            elif page == "cell":
                found = self.server.feed.cell(_one(query, "sweep"), _one(query, "cell"))
                content = json.dumps(self.server.details.read(*found)).encode()
                self._send(content, "application/json")
            elif page == "report":
                content = self.server.feed.folder_file(_one(query, "sweep"), "report.html")
                self._send(content, "text/html", policy=REPORT_POLICY)
            elif (page or "index.html") in _asset_names():
                name = page or "index.html"
                self._send(_asset(name), TYPES[Path(name).suffix])
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "There is no such page.")
        except RefusedError as refusal:
            self._refuse(HTTPStatus.NOT_FOUND, str(refusal))

    def _refusal(self, path: str) -> tuple[HTTPStatus, str] | None:
        """Why the request is rejected, with or without a token; None if it is not."""
        if len(self.path) > MAX_URL:
            return HTTPStatus.REQUEST_URI_TOO_LONG, "The URL is too long."
        if sum(len(k) + len(v) for k, v in self.headers.items()) > MAX_HEADERS:
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large."
        hosts = self.headers.get_all("Host", [])
        name = re.fullmatch(r"(\[[0-9a-f:]+\]|[\w.-]+)(:\d{1,5})?", hosts[0]) if hosts else None
        if len(hosts) != 1 or not name or name[1].lower() not in HOST_NAMES:
            return (
                HTTPStatus.MISDIRECTED_REQUEST,
                (
                    "The Host header does not name this machine. Open the URL that the server "
                    "printed, without changing it."
                ),
            )
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            return HTTPStatus.BAD_REQUEST, "A request must not have a body."
        # Browsers say where a request comes from. Only the printed URL may be opened from anywhere.
        site = self.headers.get("Sec-Fetch-Site", "none")
        if site not in ("same-origin", "none") and path != "/":
            return (
                HTTPStatus.FORBIDDEN,
                "The request comes from another page. Open the URL that the server printed.",
            )
        return None

    def _enter(self, token: str) -> None:
        """Exchange the token for a cookie, and lead to the page.

        With a redirect instead, a browser would not send the cookie if the URL was opened from
        another web page, such as a notebook.
        """
        if not _equal(token, self.server.token):
            self._refuse(HTTPStatus.FORBIDDEN, "Open the URL that the server printed.")
            return
        path = self.server.prefix
        cookie = f"{COOKIE}={self.server.token}; Path={path}; HttpOnly; SameSite=Strict"
        content = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>lenet-sweep</title>'
            '<link rel="icon" href="data:,">'
            f'<meta http-equiv="refresh" content="0; url={path}">'
            f'<p><a href="{path}">Open the sweeps</a></p></html>'
        )
        self._send(content.encode(), "text/html", cookie=cookie)

    def _has_token(self) -> bool:
        # SimpleCookie rejects all cookies if one of another server on this host is unusual.
        found = re.findall(rf"(?:^|;\s*){COOKIE}=([\w-]+)", self.headers.get("Cookie", ""))
        return any(_equal(value, self.server.token) for value in found)

    def _stream(self, names: list[str]) -> None:
        self.close_connection = True
        self._start(HTTPStatus.OK, "text/event-stream", POLICY, {"Connection": "close"})
        if self.command == "HEAD":
            return
        messages: Iterator[bytes] = self.server.feed.stream(names)
        try:
            for message in messages:
                self._write(message)
        except OSError:
            pass  # the page was closed
        finally:
            messages.close()  # type: ignore[attr-defined] # a generator, typed as an iterator

    def _send(
        self,
        content: bytes,
        kind: str,
        *,
        status: HTTPStatus = HTTPStatus.OK,
        policy: str = POLICY,
        cookie: str = "",
    ) -> None:
        more = {"Content-Length": str(len(content))} | ({"Set-Cookie": cookie} if cookie else {})
        if self.close_connection:
            more["Connection"] = "close"
        self._start(status, kind, policy, more)
        if self.command != "HEAD":
            self._write(content)

    def _write(self, content: bytes) -> None:
        """Write to the connection, in parts, because the timeout is for each of them."""
        for start in range(0, len(content), PART):
            self.wfile.write(content[start : start + PART])

    def _start(self, status: HTTPStatus, kind: str, policy: str, more: dict[str, str]) -> None:
        self.send_response(status)
        charset = "" if kind == "application/json" else "; charset=utf-8"
        headers = {"Content-Type": kind + charset, "Content-Security-Policy": policy}
        for name, value in (headers | HEADERS | more).items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self.close_connection = True
        self._send(f"{text}\n".encode(errors="replace"), "text/plain", status=status)

    def send_error(self, code: int, message: str | None = None, _: str | None = None) -> None:
        """Answer a malformed request, or a method other than GET and HEAD."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are allowed."
        if not hasattr(self, "command") or self.command is None:
            self.command = "GET"
        self._refuse(HTTPStatus(code), message or "The request is not valid.")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as in the base class
        """Requests are not logged: their URLs may have the token."""


def _one(query: dict[str, list[str]], name: str) -> str:
    return query.get(name, [""])[0]


def _equal(given: str, expected: str) -> bool:
    """Compare secrets in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())
