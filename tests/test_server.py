"""The server of the live page: who may ask, what it reads, and how it starts and ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from made_sweeps import fail, launched, settings, store_all
from served import RunningSweep, first_message, free_port, get, serving

from lenet_sweep.config.sweep_options import SweepOptions
from lenet_sweep.core.events import Started
from lenet_sweep.runner import event_recorder, page_process
from lenet_sweep.serve import __main__ as serve
from lenet_sweep.serve import live_sweep, served_folder
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
    assert "--data FOLDER" in details["notes"][0]


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
    assert "leads out of the served folder" in details["notes"][0]


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
        assert b"leads out of the served folder" in content
    else:
        head = first_message(server, "it")[1]["head"]
        texts = [head["error"], *head.get("notes", [])]
        assert any(f"sweeps/it/{name} leads out" in text for text in texts)


@posix
def test_a_linked_sweep_or_run_outside_is_not_read(server, store, tmp_path) -> None:
    """Neither a sweep's folder nor a run's folder may be a link that leads out."""
    (store / "sweeps/it").rename(tmp_path / "it")
    (store / "sweeps/it").symlink_to(tmp_path / "it")
    assert "leads out of the served folder" in error_of(server)
    (store / "sweeps/it").unlink()
    (tmp_path / "it").rename(store / "sweeps/it")
    cell = first_message(server, "it")[1]["cells"][0]["id"]
    run = store / "runs" / cell.partition("-")[0]
    run.rename(tmp_path / "run")
    run.symlink_to(tmp_path / "run")
    details = json.loads(get(server, f"cell?sweep=it&cell={cell}")[2])
    assert details["samples"] is None
    assert "leads out of the served folder" in details["notes"][0]


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
    assert re.search(r"sweeps/it/results.csv has .* MB, more than the page reads", head["error"])
    monkeypatch.setattr(served_folder, "LIMITS", limits | {"results.csv": 10**6})
    cell = first_message(server, "it")[1]["cells"][0]["id"]
    details = json.loads(get(server, f"cell?sweep=it&cell={cell}")[2])
    assert "more than the page reads" in details["notes"][0]
    monkeypatch.setattr(live_sweep, "MAX_CELLS", 2)
    os.utime(store / "sweeps/it/sweep.json")
    assert "has 3 cells, more than the page shows (2)" in error_of(server)


@posix
def test_pipes_in_place_of_files_do_not_block(server, store) -> None:
    """They are refused like other files that are not regular."""
    (store / "sweeps/it/results.csv").unlink()
    os.mkfifo(store / "sweeps/it/results.csv")
    assert error_of(server) == "sweeps/it/results.csv is not a file"


def test_a_killed_launch_is_noticed(tmp_path, small_folder, monkeypatch) -> None:
    """A launch whose process has gone does not run, although it did not end."""
    cells, options = settings(small_folder(), tmp_path / "out", lr=[0.1])
    monkeypatch.setattr(event_recorder, "END_TIMEOUT", 60.0)
    with monkeypatch.context() as patch, serving(tmp_path / "out") as server:
        sweeps = [RunningSweep(cells, replace(options, name="alive"))]
        patch.setattr(event_recorder.os, "getpid", lambda: 2**22 + 1)  # no such process
        sweeps.append(RunningSweep(cells, replace(options, name="dead")))
        patch.setattr(event_recorder, "LaunchEnded", lambda: Started(cells[0].run_id, 0))
        for sweep in sweeps:
            sweep.end()  # waits until its events are written
        states = [first_message(server, name)[1]["head"]["state"] for name in ("alive", "dead")]
    assert states == ["running", "interrupted"]


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


def test_serve_starts_one_server_for_a_folder(options, tmp_path) -> None:
    """Sweeps of one process share a page, which shows the sweeps of `out`."""
    line = page_process.start_page(options, None)
    assert re.fullmatch(r"Live page: http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", line)
    assert page_process.start_page(options, options.out / "sweeps/it") == line
    elsewhere = page_process.start_page(options, tmp_path / "elsewhere")
    assert "no live page, because it shows the sweeps in" in elsewhere
    process = page_process._servers[options.out.resolve()]
    page_process._end(process)
    assert process.poll() == 0
    process.stdout.close()


def test_a_server_that_cannot_start_is_reported(options, monkeypatch) -> None:
    """The sweep gets a line with the reason, and continues."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert page_process.start_page(options, None) == (
        "serve=true: the live page could not be started: No such file or directory"
    )


@pytest.mark.slow
def test_the_server_of_a_sweep_ends_with_it(tmp_path, small_folder) -> None:
    """serve=true prints the URL before the training starts; nothing is left running at the end."""
    words = [f"dataset.root={small_folder()}", "dataset=folder", "device=cpu", "epochs=1",
             "figures=none", "report=false", "serve=true"]  # fmt: skip
    for mode in ([], ["-m"]):
        done = subprocess.run(
            [sys.executable, "-m", "lenet_sweep", *mode, *words, f"name=it{len(mode)}"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        (url,) = re.findall(r"Live page: (\S+)", done.stdout + done.stderr)
        assert (url in done.stdout) == bool(mode)
        port = int(re.search(r":(\d+)/", url)[1])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port)).close()
