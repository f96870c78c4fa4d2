"""Downloads against a local server: checked, resumed, refused, and nothing half-written."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from experiments.data.download import DataError, Remote, download

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(ThreadingHTTPServer):
    """Serves ``answers`` one after the other, the last one for ever; notes requested ranges."""

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.ranges = []

    def remote(self, **changes):
        size, digest = len(CONTENT), hashlib.sha256(CONTENT).hexdigest()
        url = f"http://127.0.0.1:{self.server_port}/data.bin"
        return Remote(**{"url": url, "size": size, "sha256": digest, **changes})


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content, sent = self.server.answers[0]
        if len(self.server.answers) > 1:
            self.server.answers.pop(0)
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : first + sent])

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*answers):
        server = Server(answers)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


WHOLE = (CONTENT, len(CONTENT))
BROKEN_OFF = (CONTENT, len(CONTENT) // 3)
DAMAGED = (CONTENT[:-1] + b"?", len(CONTENT))


def files(folder: Path):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(serve, tmp_path):
    server = serve(WHOLE)
    path = download(server.remote(), tmp_path / "new")
    assert path == tmp_path / "new" / "data.bin"
    assert path.read_bytes() == CONTENT
    assert download(server.remote(), tmp_path / "new") == path
    assert server.ranges == [None]
    assert files(path.parent) == ["data.bin"]


def test_a_broken_transfer_goes_on_where_it_stopped(serve, tmp_path):
    server = serve(BROKEN_OFF, WHOLE)
    assert download(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges[0] is None
    kept = int(server.ranges[1].removeprefix("bytes=").rstrip("-"))
    assert 0.2 * len(CONTENT) < kept <= len(CONTENT) // 3


def test_an_earlier_transfer_is_resumed(serve, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    server = serve(WHOLE)
    assert download(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_part_longer_than_the_file_is_thrown_away(serve, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"more")
    server = serve(WHOLE)
    assert download(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges[-1] is None


def test_a_damaged_download_is_refused_and_fetched_again(serve, tmp_path, capsys):
    server = serve(DAMAGED, WHOLE)
    assert download(server.remote(), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, None]
    assert "arrived damaged: its sha256 is" in capsys.readouterr().err


def test_a_download_damaged_twice_is_an_error(serve, tmp_path):
    server = serve(DAMAGED)
    with pytest.raises(DataError, match="not the expected file, even when fetched again"):
        download(server.remote(), tmp_path)
    assert len(server.ranges) == 2
    assert files(tmp_path) == []


def test_a_damaged_file_at_hand_is_fetched_again(serve, tmp_path, capsys):
    (tmp_path / "data.bin").write_bytes(b"half")
    server = serve(WHOLE)
    assert download(server.remote(), tmp_path).read_bytes() == CONTENT
    assert f"4 bytes instead of {len(CONTENT)}" in capsys.readouterr().err


def test_without_a_connection(tmp_path):
    remote = Remote("http://127.0.0.1:9/data.bin", 3, "0" * 64)
    with pytest.raises(DataError, match=r"data\.bin cannot be fetched \(no connection\)"):
        download(remote, tmp_path)
    assert files(tmp_path) == []


def test_a_missing_page(serve, tmp_path):
    server = serve((b"", 0))  # even the first byte lies outside
    with pytest.raises(DataError, match="HTTP 416"):
        download(server.remote(), tmp_path)


def test_a_full_disk_leaves_nothing_half_written(serve, tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "data.bin.part").symlink_to(full)  # every write to it finds the disk full
    with pytest.raises(DataError, match=r"no space left for data\.bin of 1 MB .* LTICORE_DATA"):
        download(serve(WHOLE).remote(), tmp_path)
    assert files(tmp_path) == []
