"""Helpers for tests of the live page: servers, requests, and sweeps that seem to run."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.parse
from dataclasses import replace

from made_sweeps import launched

from lenet_sweep.core.events import Epoch, EpochEnded, SearchRound, Started
from lenet_sweep.core.plans import Run, make_plan
from lenet_sweep.results.manifest import read_manifest, write_manifest
from lenet_sweep.runner.event_recorder import EventRecorder
from lenet_sweep.serve.server import COOKIE, PageServer


@contextlib.contextmanager
def serving(folder, port=0, **arguments):
    """A server of this folder, in a thread."""
    server = PageServer(folder, port, **arguments)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def server_process(folder, port=None, *more):
    """`python -m lenet_sweep.serve` as a process; yields its URL."""
    arguments = [*(["--port", str(port)] if port else []), *more]
    process = subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep.serve", str(folder), *arguments],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            words = process.stdout.readline().split()
            yield next(word for word in words if word.startswith("http"))
        finally:
            process.terminate()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def get(server, path, *, cookie=True, method="GET", **headers):
    """Send a request: (status, headers, content). `path` is relative to the page if it can be."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if cookie:
        headers.setdefault("Cookie", f"{COOKIE}={server.token}")
    if not path.startswith(("/", "http")):
        path = server.prefix + path
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def first_message(server, *names):
    """The first message of the stream of these sweeps: its kind and its values."""
    with messages(server, *names) as stream:
        return next(stream)


@contextlib.contextmanager
def messages(server, *names):
    """The stream of these sweeps: for each message, its kind and its values."""
    query = urllib.parse.urlencode([("sweep", name) for name in names])
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", f"{server.prefix}events?{query}",
                       headers={"Cookie": f"{COOKIE}={server.token}"})  # fmt: skip
    try:
        answer = connection.getresponse()
        yield _messages(answer)
    finally:
        connection.close()


def _messages(answer):
    kind = ""
    while line := answer.readline().decode():
        name, _, value = line.rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)
        else:
            assert value != "beat", "no message for 10 seconds"


class RunningSweep:
    """A sweep without results whose events come from a test."""

    def __init__(self, cells, options):
        self.folder = launched(cells, options).sweep.folder
        self.cells = list(cells)
        self._recorder = EventRecorder(self.folder)
        self._recorder.on_start(make_plan(cells, lambda _: False), 2)

    @property
    def runs(self):
        return list(dict.fromkeys(cell.run_id for cell in self.cells))

    def start(self, number, after=0):
        self.record(Started(self.runs[number], after))

    def grow(self, cells):
        """A search samples more cells."""
        self.cells += cells
        manifest = read_manifest(self.folder)
        write_manifest(self.folder, replace(manifest, cells=tuple(self.cells)))
        self._recorder.on_plan(make_plan(self.cells, lambda _: False))

    def round(self, stage, numbers, epochs, trained=0, **more):
        """A search starts to train these runs up to `epochs`."""
        cells = [replace(self.cells[number], epochs=epochs) for number in numbers]
        runs = tuple(Run(cell, (epochs,)) for cell in cells)
        trained = dict.fromkeys([run.id for run in runs], trained)
        self._recorder.on_round(SearchRound(stage, runs, trained, **more))

    def epoch(self, number, epoch, accuracy):
        result = Epoch(epoch, 1 / epoch, accuracy, 0.9 / epoch, 1.0, 0.1)
        self.record(EpochEnded(self.runs[number], result))

    def record(self, event):
        self._recorder.on_event(event)

    def end(self):
        self._recorder.on_end()


def small_sweep(folder, *words):
    """Start a real sweep as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "lenet_sweep", "-m", *words, "device=cpu", "report=false",
         "figures=none"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip
