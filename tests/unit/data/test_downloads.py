"""Archives from a server on this machine: whole, in pieces, cut short, refused."""

from __future__ import annotations

import hashlib
import http.server
import threading
from pathlib import Path

import pytest

from layersight.data.downloads import download
from layersight.errors import AssetError

CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; cuts the first answers short if it is told to."""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        if self.path != "/images.zip":
            self.send_error(self.server.status)
            return
        start = 0
        if self.headers.get("Range") and self.server.ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(CONTENT):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        stop = len(CONTENT)
        if self.server.cuts:
            stop = start + self.server.cuts.pop(0)
        self.wfile.write(CONTENT[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    found.asked, found.cuts, found.ranges, found.status = [], [], True, 404
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()


def address(server, name: str = "images.zip") -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


def test_a_file_comes_whole_and_its_digest_is_returned(server, tmp_path):
    assert download(address(server), tmp_path / "a", sha256=SHA256) == SHA256
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_connection_that_breaks_is_gone_on_from_where_it_broke(server, tmp_path):
    server.cuts = [1_000_000, 500_000]
    assert download(address(server), tmp_path / "a", wait=0.0) == SHA256
    assert server.asked == [None, "bytes=1000000-", "bytes=1500000-"]


def test_what_an_earlier_call_left_is_kept_where_the_server_knows_ranges(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT[:700])
    assert download(address(server), tmp_path / "a") == SHA256
    assert server.asked == ["bytes=700-"]
    server.ranges = False
    (tmp_path / "b.part").write_bytes(CONTENT[:700])
    assert download(address(server), tmp_path / "b") == SHA256


def test_what_is_left_of_a_longer_file_is_thrown_away(server, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT + b"more")
    assert download(address(server), tmp_path / "a") == SHA256
    assert server.asked == [f"bytes={len(CONTENT) + 4}-", None]


def test_another_file_than_published_is_refused_and_not_gone_on_from(server, tmp_path):
    with pytest.raises(AssetError, match=f"SHA-256 is {SHA256}, but 0000.* is published"):
        download(address(server), tmp_path / "a", sha256="0" * 64)
    assert not list(tmp_path.iterdir())


def test_nothing_at_the_address_is_said_with_the_way_out(server, tmp_path):
    with pytest.raises(AssetError, match=r"gone\.zip: could not be fetched \(HTTP 404.*`path`"):
        download(address(server, "gone.zip"), tmp_path / "a", wait=0.0)
    assert len(server.asked) == 1
    server.status = 503
    with pytest.raises(AssetError, match="HTTP 503"):
        download(address(server, "busy.zip"), tmp_path / "a", wait=0.0)
    assert len(server.asked) == 5


def test_no_network_is_said_in_one_message(tmp_path):
    with pytest.raises(AssetError, match="could not be fetched .* Check the network"):
        download("http://127.0.0.1:9/images.zip", Path(tmp_path / "a"), wait=0.0)
