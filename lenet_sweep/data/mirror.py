"""Downloads from the mirrors of a dataset, verified by MD5."""

import hashlib
import http.client
import io
import queue
import threading
import urllib.error
import urllib.request

from lenet_sweep.data.transfer import DownloadProgress, UnavailableError

TIMEOUT = 10.0  # seconds until a mirror must answer, and between two parts of its answer
MAX_BYTES = 64 * 2**20  # more than twice the size of the largest archive
CHUNK = 64 * 2**10  # bytes


def fetch(url: str, md5: str, progress: DownloadProgress) -> bytes:
    """Download the file at `url` and verify its MD5 (hex). Raises UnavailableError."""
    for _ in range(2):  # one transfer may be damaged by chance
        data = _get(url, progress)
        actual = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if actual == md5:
            return data
    raise UnavailableError(
        f"{url}: damaged content in two attempts "
        f"({len(data)} bytes with MD5 {actual}, expected {md5})"
    )


def _get(url: str, progress: DownloadProgress) -> bytes:
    data = io.BytesIO()
    try:
        with _open(url) as response, progress.transfer(url, response.length) as advance:
            while chunk := response.read(CHUNK):
                data.write(chunk)
                advance(len(chunk))
                if data.tell() > MAX_BYTES:
                    raise UnavailableError(
                        f"{url}: more than {MAX_BYTES} bytes, so this is not the archive"
                    )
    except urllib.error.HTTPError as error:
        error.close()
        raise UnavailableError(f"{url}: status {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise UnavailableError(f"{url}: {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"{url}: {str(error) or type(error).__name__}") from error
    return data.getvalue()


def _open(url: str) -> http.client.HTTPResponse:
    """Connect to a mirror. Raises TimeoutError after TIMEOUT."""
    # Use a thread because a socket's timeout applies to each address of a host separately and not
    # to the name lookup. Behind a firewall that drops packets, it would take minutes.
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    request = urllib.request.Request(  # noqa: S310 - the URLs are constants of the catalog
        url, headers={"User-Agent": "lenet-sweep"}
    )

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=TIMEOUT))  # noqa: S310 - as above
        except Exception as error:  # noqa: BLE001 - raised again below
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=TIMEOUT)
    except queue.Empty:
        raise TimeoutError(f"no response within {TIMEOUT:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
