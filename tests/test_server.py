"""The server of the live page: who may ask, what it reads, and how it starts and ends."""

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from image_files import make_image_folder
from made_sweeps import fail, launched, settings, store_all
from served import RunningSweep, first_message, free_port, get, messages, serving

from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.events import CellFinished, Epoch, EpochEnded, Waiting
from lenet_sweep.runner import event_recorder, live_page
from lenet_sweep.serve import __main__ as serve
from lenet_sweep.serve import live_sweep, served_folder
from lenet_sweep.serve.live_sweep import LiveSweep
from lenet_sweep.serve.served_folder import ServedFolder
from lenet_sweep.serve.sweep_json import summary
from lenet_sweep.serve.sweep_state import SweepState
from lenet_sweep.storage.files import read_json, write_json

posix = pytest.mark.skipif(os.name != "posix", reason="links and signals")
HOSTILE = "<img src=x onerror=alert(1)>"


def make_store(out, small_folder):
    """A store with the sweep "it", which has three cells, one of them failed."""
    cells, options = settings(small_folder(), out, lr=[0.1, 0.01, 0.001])
    store_all(cells[:2], out, small_folder(), lambda n: range(n + 1))
    fail(cells[2], out, reason=HOSTILE, traceback="line 1")
    launched(cells, replace(options, name="it"))
    return out


@pytest.fixture(scope="module")
def shared(tmp_path_factory, small_folder):
    """A server whose store no test changes."""
    out = make_store(tmp_path_factory.mktemp("shared") / "served", small_folder)
    with serving(out, data_root=small_folder()) as server:
        yield server


@pytest.fixture
def store(tmp_path, small_folder):
    return make_store(tmp_path / "served", small_folder)


@pytest.fixture
def server(store, small_folder):
    with serving(store, data_root=small_folder()) as server:
        yield server


def error_of(server, name="it"):
    return first_message(server, name)[1]["head"]["error"]


# ---------------------------------------------------------------- who may ask


def test_the_token_becomes_a_cookie(shared) -> None:
    """The printed URL leads to the page; its cookie is for this server's pages only."""
    status, headers, content = get(shared, f"/?token={shared.token}", cookie=False)
    assert status == 200
    assert f"url={shared.prefix}" in content.decode()
    cookie = headers["Set-Cookie"]
    assert cookie.endswith(f"Path={shared.prefix}; HttpOnly; SameSite=Strict")
    status, headers, content = get(shared, "", cookie=False, Cookie=cookie.partition(";")[0])
    assert status == 200
    assert b"app.js" in content
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["", "app.js", "events", "cell?sweep=it", "report?sweep=it"])
@pytest.mark.parametrize(
    "cookie", ["", "lenet_sweep=", "lenet_sweep=x", "lenet_sweep=\xff", "other=1", ";;=\x01"]
)
def test_without_the_token_nothing_is_shown(shared, path, cookie) -> None:
    """Every page needs the cookie, also for those who know its path."""
    status, headers, content = get(shared, path, cookie=False, Cookie=cookie)
    assert status == 403
    assert content == b"Open the URL that the server printed.\n"
    assert "Set-Cookie" not in headers


def test_cookies_of_other_servers_do_not_matter(shared) -> None:
    """Browsers send those of all ports of this machine, also unusual ones."""
    cookie = f'theme={{"dark": 1}}; a[0]=b c; lenet_sweep={shared.token}; \xff=@'
    assert get(shared, "", cookie=False, Cookie=cookie)[0] == 200
    assert get(shared, "", cookie=False, Cookie=f"not_lenet_sweep={shared.token}")[0] == 403


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token=%ff", "?token=%00"])
def test_a_wrong_token_is_refused(shared, query) -> None:
    status, headers, _ = get(shared, f"/{query}", cookie=False)
    assert status == 403
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "",
     "127.0.0.1@evil.example", "127.0.0.2", "0.0.0.1", "[::2]", "localhost:x", "localhost:1:2"],
)  # fmt: skip
def test_another_host_is_refused(shared, host) -> None:
    """A web page that reaches the server under its own name gets nothing (DNS rebinding)."""
    for path in ("", f"/?token={shared.token}"):
        status, headers, content = get(shared, path, Host=host)
        assert status == 421
        assert "Set-Cookie" not in headers
        assert b"Host" in content


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:80", "LOCALHOST:1"])
def test_a_forwarded_port_works(shared, host) -> None:
    """With `ssh -L`, the port of the URL may be another one."""
    assert get(shared, "", Host=host)[0] == 200


def test_other_web_pages_are_refused(shared) -> None:
    """A page on another port of this machine can link to the printed URL, but not read data."""
    for site in ("cross-site", "same-site"):
        assert get(shared, "cell?sweep=it", Sec_Fetch_Site=site)[0] == 403
        assert get(shared, f"/?token={shared.token}", Sec_Fetch_Site=site)[0] == 200
    assert get(shared, "app.js", Sec_Fetch_Site="same-origin")[0] == 200


def test_it_listens_on_the_loopback_interface_only(shared) -> None:
    assert shared.socket.getsockname()[0] == "127.0.0.1"


# ---------------------------------------------------------------- hostile requests


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "X"])
def test_only_reading_is_allowed(shared, method) -> None:
    status, headers, _ = get(shared, "", method=method)
    assert status == 405
    assert headers["Connection"] == "close"


def test_head_has_no_content(shared) -> None:
    for path in ("", "events", "app.js"):
        assert get(shared, path, method="HEAD")[::2] == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["../runs", "..%2f..%2fetc%2fpasswd", "%2e%2e/", "//etc/passwd", "app.js/..", "app.js%00",
     "static/app.js", "../server.py", "server.py", "....//", "\\..\\server.py", "index.html/",
     "/etc/passwd", "/../../etc/passwd", "app%2ejs"],
)  # fmt: skip
def test_no_part_of_a_url_is_a_path(shared, path) -> None:
    """Only the files of the page can be requested, by their exact names."""
    status, _, content = get(shared, path)
    assert status in (400, 403, 404)
    assert content.count(b"\n") == 1


@pytest.mark.parametrize(
    "name",
    ["..", ".", "../it", "it/../it", "/etc", "it%00", "nothing", "it/sweep.json", "runs"],
)
def test_names_of_sweeps_are_not_paths(shared, name) -> None:
    """A sweep is looked up in the list of sweeps."""
    assert "no sweep with this name" in error_of(shared, name)
    for page in ("report", "cell"):
        status, _, content = get(shared, f"{page}?sweep={name.replace('/', '%2f')}")
        assert status == 404
        assert b"no sweep" in content


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1", 414),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, 431),
        (b"GET / HTTP/1.1" + b"\r\nX: a" * 200, 431),
        (b"GET / HTTP/1.1" + (b"\r\nX: " + b"a" * 5000) * 10, 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost", 421),
        (b"GET / HTTP/1.1", 421),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked", 400),
        (b"GET / HTTP/9.9", 505),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost", 400),
        (b"GET /?" + b"&".join([b"a=1"] * 100) + b" HTTP/1.1\r\nHost: localhost", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
    ],
)
def test_malformed_and_huge_requests(shared, line, status) -> None:
    """They are answered in one line, and the server continues."""
    with socket.create_connection(("127.0.0.1", shared.server_port), timeout=60) as connection:
        connection.sendall(line + b"\r\n\r\n")
        answer = b""
        while part := connection.recv(65536):
            answer += part
    if answer.startswith(b"HTTP/1.1"):
        assert int(answer.split()[1]) == status
    assert b"Traceback" not in answer
    assert get(shared, "")[0] == 200


def test_silent_connections_do_not_block_others(shared) -> None:
    """Connections that send nothing leave the server usable, up to its limit of connections."""
    silent = [socket.create_connection(("127.0.0.1", shared.server_port)) for _ in range(50)]
    assert get(shared, "")[0] == 200
    for connection in silent:
        connection.close()


# ---------------------------------------------------------------- what it reads


def test_the_details_of_a_cell(server) -> None:
    """Its settings, the images it got wrong, and why it failed."""
    _, values = first_message(server, "it")
    good, bad = values["cells"][1]["id"], values["cells"][2]["id"]
    details = json.loads(get(server, f"cell?sweep=it&cell={good}")[2])
    assert details["samples"]["wrong"] == 2
    assert [item[0] for item in details["samples"]["items"]] == [0, 1]
    assert details["samples"]["sprite"]["uri"].startswith("data:image/png;base64,")
    assert ["learning rate", "0.01"] in details["settings"]
    assert details["command"].startswith("python -m lenet_sweep ")
    details = json.loads(get(server, f"cell?sweep=it&cell={bad}")[2])
    assert details["failure"]["reason"] == HOSTILE
    assert details["failure"]["traceback"] == "line 1"
    assert get(server, "cell?sweep=it&cell=nothing")[::2] == (
        404, b"this sweep has no such cell\n")  # fmt: skip


def test_the_folder_that_a_sweep_names_for_its_images_is_not_read(store) -> None:
    """Own images are shown only if their folder is given with --data."""
    with serving(store) as server:
        cell = first_message(server, "it")[1]["cells"][0]["id"]
        details = json.loads(get(server, f"cell?sweep=it&cell={cell}")[2])
    assert details["samples"] is None
    assert "--data DIR" in details["notes"][0]


def test_decoding_an_image_folder_changes_no_file(tmp_path, monkeypatch) -> None:
    """The images of `--data` are shown, but not added to the cache."""
    monkeypatch.setenv("LENET_SWEEP_DATA", str(tmp_path / "cache"))
    root = make_image_folder(tmp_path / "images", ["cat", "dog"], train=2, test=1)
    cells, options = settings(root, tmp_path / "out", dataset="image_folder", lr=[0.1])
    store_all(cells, tmp_path / "out", root, lambda _: [])
    launched(cells, replace(options, name="it"))
    shutil.rmtree(tmp_path / "cache/decoded")
    with serving(tmp_path / "out", data_root=root) as server:
        details = json.loads(get(server, f"cell?sweep=it&cell={cells[0].id}")[2])
    assert details["samples"]["images"] == 2
    assert not (tmp_path / "cache/decoded").exists()


@pytest.mark.parametrize("target", ["../../..", "/", "../../../other"])
def test_a_store_outside_the_folder_is_not_read(server, store, tmp_path, target) -> None:
    """A sweep.json that names another store shows only its own results.csv."""
    (store / "runs").rename(tmp_path / "runs")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "runs").symlink_to(tmp_path / "runs")
    path = store / "sweeps/it/sweep.json"
    write_json(path, read_json(path) | {"store": target})
    _, values = first_message(server, "it")
    assert values["points"] == []
    assert values["rows"][0][1]["status"] == "ok"
    cell = values["cells"][0]["id"]
    details = json.loads(get(server, f"cell?sweep=it&cell={cell}")[2])
    assert details["samples"] is None
    assert "is outside the served folder" in details["notes"][0]


@posix
@pytest.mark.parametrize("name", ["sweep.json", "results.csv", "events.jsonl", "report.html"])
def test_links_out_of_the_folder_are_not_followed(server, store, tmp_path, name) -> None:
    """A file of a sweep that is a link to another folder is not read."""
    path, secret = store / "sweeps/it" / name, tmp_path / "secret"
    if name == "report.html":
        path.write_text("report")
        assert get(server, "report?sweep=it")[::2] == (200, b"report")
    path.rename(secret)
    path.symlink_to(secret)
    if name == "report.html":
        status, _, content = get(server, "report?sweep=it")
        assert status == 404
        assert b"is outside the served folder" in content
    else:
        head = first_message(server, "it")[1]["head"]
        texts = [head["error"], *head.get("notes", [])]
        assert any(f"sweeps/it/{name} is outside" in text for text in texts)


@posix
def test_a_linked_sweep_or_run_outside_is_not_read(server, store, tmp_path) -> None:
    """Neither a sweep's folder nor a run's folder may be a link that leads out."""
    (store / "sweeps/it").rename(tmp_path / "it")
    (store / "sweeps/it").symlink_to(tmp_path / "it")
    assert "is outside the served folder" in error_of(server)
    (store / "sweeps/it").unlink()
    (tmp_path / "it").rename(store / "sweeps/it")
    cell = first_message(server, "it")[1]["cells"][0]["id"]
    run = store / "runs" / cell.partition("-")[0]
    run.rename(tmp_path / "run")
    run.symlink_to(tmp_path / "run")
    details = json.loads(get(server, f"cell?sweep=it&cell={cell}")[2])
    assert details["samples"] is None
    assert "is outside the served folder" in details["notes"][0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "sweep.json is damaged"),
        ("[" * 100_000, "sweep.json is damaged"),
        ('{"cells": []}', "sweep.json is damaged"),
        ({"cells": 1, "store": ".."}, "written by another version"),
        ({"cells": [{}], "store": ".."}, "written by another version"),
        ({"cells": [[]], "store": ".."}, ""),
        ({"cells": [], "store": 3}, "written by another version"),
        ({"cells": [], "store": "\0"}, ""),
    ],
)
def test_a_malformed_sweep_is_refused_in_one_line(server, store, content, reason) -> None:
    """The page says why, and shows the sweep as soon as its file is right."""
    path = store / "sweeps/it/sweep.json"
    right = path.read_bytes()
    if isinstance(content, dict):
        write_json(path, content)
    else:
        path.write_text(content)
    message = first_message(server, "it")[1]
    text = message["head"]["error"] or str(message["head"]["notes"])
    assert reason in text
    assert text.count("\n") == 0
    kind, values = first_message(server)
    assert (kind, len(values["sweeps"])) == ("sweeps", 1)
    path.write_bytes(right)
    assert error_of(server) == ""


def test_values_of_the_wrong_type_are_refused(server, store) -> None:
    """A forged cell with a valid checksum does not end the server."""
    path = store / "sweeps/it/sweep.json"
    values = read_json(path)
    for key, value in [
        ("lr", HOSTILE),
        ("epochs", "many"),
        ("seed", {}),
        ("batch", 1e400),
        ("epochs", 0),
    ]:
        forged = [values["cells"][0] | {key: value}, *values["cells"][1:]]
        write_json(path, values | {"cells": forged})
        head = first_message(server, "it")[1]["head"]
        assert head["error"] or head["state"]
    assert get(server, "")[0] == 200


def test_huge_files_are_refused(server, store, monkeypatch) -> None:
    """A file larger than the server reads, or a sweep with too many cells, is named."""
    limits = served_folder.LIMITS | {"results.csv": 100, ".safetensors": 100}
    monkeypatch.setattr(served_folder, "LIMITS", limits)
    head = first_message(server, "it")[1]["head"]
    assert re.search(r"sweeps/it/results.csv is .* MB, more than the limit of", head["error"])
    monkeypatch.setattr(served_folder, "LIMITS", limits | {"results.csv": 10**6})
    cell = first_message(server, "it")[1]["cells"][0]["id"]
    details = json.loads(get(server, f"cell?sweep=it&cell={cell}")[2])
    assert "more than the limit of" in details["notes"][0]
    monkeypatch.setattr(live_sweep, "MAX_CELLS", 2)
    os.utime(store / "sweeps/it/sweep.json")
    assert "has 3 cells; the live page can show at most 2" in error_of(server)


def test_an_open_page_gets_all_cells_after_an_error(
    server, store, small_folder, monkeypatch
) -> None:
    """Also if the folder was deleted, and another sweep has its name now."""
    table = store / "sweeps/it/results.csv"
    limits = served_folder.LIMITS
    monkeypatch.setattr(served_folder, "LIMITS", limits | {"results.csv": 100})
    with messages(server, "it") as stream:
        assert "more than the limit of" in next(stream)[1]["head"]["error"]
        monkeypatch.setattr(served_folder, "LIMITS", limits)
        os.utime(table)
        kind, values = next(stream)
        assert (kind, len(values["cells"])) == ("snapshot", 3)
        shutil.rmtree(store / "sweeps/it")
        while "no sweep with this name" not in next(stream)[1].get("head", {}).get("error", ""):
            pass
        cells, options = settings(small_folder(), store, lr=[0.1, 0.3], batch=[16, 32])
        launched(cells, replace(options, name="it"))
        kind, values = next(stream)
        assert (kind, len(values["cells"])) == ("snapshot", 4)


@posix
def test_pipes_in_place_of_files_do_not_block(server, store) -> None:
    """They are refused like other files that are not regular."""
    (store / "sweeps/it/results.csv").unlink()
    os.mkfifo(store / "sweeps/it/results.csv")
    assert error_of(server) == "sweeps/it/results.csv is not a file"


@posix
def test_a_killed_launch_is_noticed(tmp_path, small_folder, monkeypatch) -> None:
    """An open page shows that its runs are paused, although the launch did not end."""
    sweep = killed_sweep(tmp_path / "out", small_folder, monkeypatch)
    with serving(tmp_path / "out") as server, messages(server, "it") as stream:
        _, values = next(stream)
        # In a container, the process may not be found, but the file is new.
        assert values["head"]["state"] == "running"
        assert values["rows"][0][1]["status"] == "training"
        os.utime(sweep.folder / "events.jsonl", (time.time() - 10,) * 2)
        _, values = next(stream)
    assert values["head"]["state"] == "interrupted"
    assert [(row["status"], row["epoch"]) for _, row in values["rows"]] == [("queued", 1)]


@posix
def test_a_killed_launch_is_noticed_beside_a_new_one(tmp_path, small_folder, monkeypatch) -> None:
    """The new launch keeps the file new, but has not come to the run yet."""
    with monkeypatch.context() as patch:
        killed_sweep(tmp_path / "out", small_folder, patch)
    sweep = killed_sweep(tmp_path / "out", small_folder, monkeypatch, pid=os.getpid(), run=1)
    live = LiveSweep("it", sweep.folder, ServedFolder(tmp_path))
    live.refresh(detailed=True)
    assert [row["status"] for row in live.state.rows] == ["queued", "training"]


def killed_sweep(out, small_folder, patch, pid=2**22 + 1, run=0):
    """A launch of two runs that ended after the first epoch of a run, without a line about that."""
    cells, options = settings(small_folder(), out, lr=[0.1, 0.01])
    patch.setattr(event_recorder, "END_TIMEOUT", 60.0)
    patch.setattr(event_recorder.os, "getpid", lambda: pid)
    last = EpochEnded(cells[run].run_id, Epoch(1, 1.0, 91.0, 0.9, 1.0, 0.1))
    patch.setattr(event_recorder, "LaunchEnded", lambda: last)
    sweep = RunningSweep(cells, replace(options, name="it"))
    sweep.start(run)
    sweep.end()  # waits until its events are written
    return sweep


def test_a_sweep_of_the_list_is_opened(tmp_path, small_folder, monkeypatch) -> None:
    """The list reads it in small parts and keeps the last epochs only; its page has all epochs."""
    monkeypatch.setattr(event_recorder, "END_TIMEOUT", 60.0)
    monkeypatch.setattr(live_sweep, "LIST_CHUNK", 100)  # bytes, less than a line
    cells, options = settings(small_folder(), tmp_path, lr=[0.1, 0.01])
    sweep = RunningSweep(cells, replace(options, name="it"))
    sweep.start(0)
    for number in (1, 2, 3):
        sweep.epoch(0, number, 90.0 + number)
    sweep.record(CellFinished(cells[0].run_id, 3))
    sweep.end()
    live = LiveSweep("it", sweep.folder, ServedFolder(tmp_path))
    while live.refresh(detailed=False):
        pass
    assert [summary(live)[key] for key in ("done", "best")] == [1, 93.0]
    assert live.state.points == []
    live.refresh(detailed=True)
    assert [point[1] for point in live.state.points] == [1, 2, 3]


def test_curves_of_runs_that_another_sweep_trains(tmp_path, small_folder, monkeypatch) -> None:
    """They are read from the store when a cell is finished, and so is its accuracy.

    So are epochs that events.jsonl had no room for.
    """
    monkeypatch.setattr(event_recorder, "END_TIMEOUT", 60.0)
    out = tmp_path / "out"
    cells, options = settings(small_folder(), out, lr=[0.1, 0.01])
    sweep = RunningSweep(cells, replace(options, name="it"))
    live = LiveSweep("it", sweep.folder, ServedFolder(out))
    live.refresh(detailed=True)  # nothing is in the store yet
    sweep.start(0)
    sweep.epoch(0, 1, 91.0)
    sweep.record(Waiting(cells[1].run_id))
    store_all(cells, out, small_folder(), lambda n: range(10 * n))
    for cell in cells:
        sweep.record(CellFinished(cell.run_id, 3))
    sweep.end()
    live.refresh(detailed=True)
    assert [row["accuracy"] for row in live.state.rows] == [100.0, 95.0]
    assert sorted(point[:2] for point in live.state.points) == [
        (r, e) for r in (0, 1) for e in (1, 2, 3)
    ]


def test_epochs_before_an_unusable_one_are_shown(tmp_path, small_folder) -> None:
    """A forged history may raise an exception halfway; the row has what came before."""
    (cell,), _ = settings(small_folder(), tmp_path, lr=0.1)

    def forged():
        yield Epoch(1, 1.0, 91.0, 0.9, 1.0, 0.1)
        yield Epoch(2, 0.9, 92.0, 0.8, 1.0, 0.1)
        raise ArithmeticError

    state = SweepState([cell], detailed=True)
    with pytest.raises(ArithmeticError):
        state.add_history(cell.run_id, forged())
    assert (state.rows[0]["epoch"], state.rows[0]["at"]) == (2, 92.0)


def test_the_report_has_no_access_to_the_page(server, store) -> None:
    """report.html has inline scripts, and gets an origin of its own."""
    (store / "sweeps/it/report.html").write_text("<script>1</script>")
    status, headers, _ = get(server, "report?sweep=it")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts allow-downloads; default-src 'none'")


# ---------------------------------------------------------------- the command


def test_help_does_not_import_torch_or_pandas(tmp_path) -> None:
    for name in ("torch", "pandas", "http/server"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text("raise ImportError('not for --help')")
    command = [sys.executable, "-m", "lenet_sweep.serve", "--help"]
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    assert "--port" in subprocess.check_output(command, text=True, env=env)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        ([".", "--port", "99999"], "--port 99999: must be from 1 to 65535"),
        ([".", "--port", "x"], "usage"),
        ([".", "--host", "::"], "usage"),
    ],
)
def test_wrong_arguments(arguments, words, capsys) -> None:
    assert serve.main(arguments) == 2
    _, line = capsys.readouterr()
    assert line.startswith("error: ")
    assert words in line
    assert line.count("\n") == 1


def test_a_port_in_use(store, capsys, monkeypatch) -> None:
    """A port that was asked for is an error; without one, another port is used."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert serve.main([str(store), "--port", str(port)]) == 2
        assert f"--port {port}: Address already in use" in capsys.readouterr().err
        monkeypatch.setattr(serve, "PORT", port)
        with serve._server(store, None, None) as server:
            assert server.server_port != port


@posix
def test_a_signal_ends_it(store) -> None:
    """The exit status is 0, and nothing but the URL is printed."""
    command = [sys.executable, "-m", "lenet_sweep.serve", str(store), "--port"]
    processes = {
        number: subprocess.Popen(
            [*command, str(free_port())],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in (signal.SIGINT, signal.SIGTERM)
    }  # fmt: skip
    for number, process in processes.items():
        with process:
            assert "http://127.0.0.1:" in process.stdout.readline()
            process.send_signal(number)
            assert process.communicate(timeout=60)[0] == ""
        assert process.returncode == 0


# ---------------------------------------------------------------- serve=true


@pytest.fixture
def options(tmp_path, small_folder) -> SweepOptions:
    _, options = settings(small_folder(), tmp_path / "out", serve=True)
    return options


def test_serve_starts_one_server_for_a_folder(options, tmp_path, monkeypatch) -> None:
    """Sweeps of one process share a page, which shows the sweeps of `out`. None waits for long."""
    lines = queue.Queue()
    monkeypatch.setattr(live_page, "START_TIMEOUT", 0.0)
    live_page.start_live_page(options, None, lines.put)
    assert lines.get() == "serve=true: the live page is starting; its URL follows"
    line = lines.get(timeout=60)
    assert re.fullmatch(r"Live page: http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", line)
    live_page.start_live_page(options, options.out / "sweeps/it", lines.put)
    assert lines.get() == line
    live_page.start_live_page(options, tmp_path / "elsewhere", lines.put)
    assert "the live page was not started: it shows only the sweeps in" in lines.get()
    server = live_page._servers[options.out.resolve()]
    live_page._end(server)
    assert server.process.poll() == 0


def test_a_server_that_cannot_start_is_reported(options, monkeypatch) -> None:
    """The sweep gets a line with the reason, and continues."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    lines = []
    live_page.start_live_page(options, None, lines.append)
    assert lines == ["serve=true: the live page could not be started: No such file or directory"]


@posix
@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("a warning|Live page: URL|" + "x" * 10**6, "Live page: URL"),
        ("a warning|the reason", "serve=true: the live page could not be started: the reason"),
    ],
)
def test_what_a_server_prints_besides_its_url(
    options, tmp_path, monkeypatch, printed, told
) -> None:
    """Warnings neither end the server nor block it, and the last line has the reason of its end."""
    (tmp_path / "printed").write_text(printed.replace("|", "\n"))
    (tmp_path / "python").write_text(f"#!/bin/sh\ncat {tmp_path / 'printed'}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(live_page, "START_TIMEOUT", 60.0)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    lines = []
    live_page.start_live_page(options, None, lines.append)
    assert lines == [told]
    assert live_page._servers[options.out.resolve()].process.wait(60) == 0


@pytest.mark.slow
def test_the_server_of_a_sweep_ends_with_it(tmp_path, small_folder) -> None:
    """serve=true prints the URL before or in training; nothing is left running at the end."""
    words = [f"dataset.root={small_folder()}", "dataset=folder", "device=cpu", "epochs=50",
             "figures=none", "report=false", "serve=true"]  # fmt: skip
    for mode in ([], ["-m"], ["-m", "search=random", "search.trials=2", "lr=0.1,0.01"]):
        done = subprocess.run(
            [sys.executable, "-m", "lenet_sweep", *mode, *words, f"name=it{len(mode)}"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        (url,) = re.findall(r"Live page: (\S+)", done.stdout + done.stderr)
        assert (url in done.stdout) == bool(mode)
        port = int(re.search(r":(\d+)/", url)[1])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port)).close()


def test_names_of_runs_leave_out_the_epochs(tmp_path, small_folder) -> None:
    """A run that two cells with different epochs share is not called by the epochs of one."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1, 0.2], epochs=[1, 3])
    store_all(cells, tmp_path / "out", small_folder(), lambda _: [])
    launched(cells, replace(options, name="it"))
    with serving(tmp_path / "out") as server:
        values = first_message(server, "it")[1]
    assert values["runs"] == ["lr 0.1", "lr 0.2"]
    assert values["cells"][0]["name"] == "lr 0.1, epochs 1"
