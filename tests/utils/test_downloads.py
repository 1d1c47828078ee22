"""Files of weights, from a server on this machine."""

import hashlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sg_resnets.utils import downloads as module
from sg_resnets.utils.downloads import MIRROR, fetched
from sg_resnets.utils.errors import SgResnetsError

CONTENTS = bytes(range(256)) * 16
DIGEST = hashlib.sha256(CONTENTS).hexdigest()


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/silent":
            self.server.ended.wait(10)
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", len(CONTENTS))
            self.end_headers()
            self.wfile.write(CONTENTS[:1000] if self.path == "/half" else CONTENTS)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.asked, server.ended = [], threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


def read(*args, **kwargs):
    with fetched(*args, **kwargs) as path:
        return path.read_bytes()


def refusal(*args, **kwargs):
    with pytest.raises(SgResnetsError) as error:
        read(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_downloaded_once_and_its_checksum_noted(server, downloads):
    assert [read(f"{server.url}/w.pth", "w.pth") for _ in range(2)] == [CONTENTS, CONTENTS]
    assert server.asked == ["/w.pth"]
    assert (downloads / "w.pth.sha256").read_text() == f"{DIGEST}  w.pth\n"  # as sha256sum has it


def test_half_a_file_is_not_taken_for_the_whole(server, downloads):
    said = refusal(f"{server.url}/half", "w.pth")
    assert said.startswith(f"{server.url}/half could not be downloaded (it ended after 1000 of 4096 bytes)")
    assert not list(downloads.iterdir())


def test_another_file_than_the_published_is_neither_kept_nor_read(server, downloads):
    url = f"{server.url}/w.pth"
    said = refusal(url, "w.pth", digits="0" * 64)
    assert f"(SHA-256 {DIGEST[:8]}, not 00000000, which was published)" in said
    (downloads / "w.pth.sha256").write_text(f"{'1' * 64} *w.pth\n")  # by hand, before the download
    assert f"(SHA-256 {DIGEST[:8]}, not 11111111, which is in w.pth.sha256)" in refusal(url, "w.pth")
    (downloads / "w.pth.sha256").write_text("sum")
    assert "w.pth.sha256 holds no SHA-256" in refusal(url, "w.pth")
    assert [path.name for path in downloads.iterdir()] == ["w.pth.sha256"]


def test_a_file_put_there_by_hand_is_read_without_a_network_until_it_changes(hub):
    (hub / "w.pth").write_bytes(CONTENTS)
    assert read("https://x.org/w.pth", "w.pth") == CONTENTS
    (hub / "w.pth").write_bytes(CONTENTS[:-1])
    said = refusal("https://x.org/w.pth", "w.pth")
    assert f"{hub / 'w.pth'} is damaged" in said and said.endswith("delete it; it comes from https://x.org/w.pth")


def test_the_checksum_of_a_file_that_could_not_be_read_is_not_noted(hub):
    (hub / "w.pth").write_bytes(b"half")
    with pytest.raises(EOFError), fetched("https://x.org/w.pth", "w.pth"):
        raise EOFError
    (hub / "w.pth").write_bytes(CONTENTS)
    assert read("https://x.org/w.pth", "w.pth") == CONTENTS


def test_a_mirror_stands_for_the_address(server, downloads, tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "w.pth").write_bytes(CONTENTS)
    for mirror in (tmp_path / "shared", f"{server.url}/weights/"):
        monkeypatch.setenv(MIRROR, str(mirror))
        assert read("https://x.org/w.pth", "w.pth", DIGEST) == CONTENTS
        (downloads / "w.pth").unlink()
    assert server.asked == ["/weights/w.pth"]
    monkeypatch.setenv(MIRROR, str(tmp_path / "shared"))
    assert refusal("https://x.org/v.pth", "v.pth") == (
        f"{tmp_path}/shared/v.pth could not be downloaded (No such file or directory): put that file at "
        f"{downloads}/v.pth; it comes from https://x.org/v.pth"
    )
    assert read(f"{server.url}/own.pth", "own.pth", mirrored=False) == CONTENTS


def test_what_cannot_be_reached_is_said_in_seconds(server, downloads, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/w.pth"
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    started = time.monotonic()
    for url, reason in (
        (closed, "Connection refused"),
        (f"{server.url}/silent", "timed out"),
        (f"{server.url}/missing", "HTTP Error 404: Not Found"),
    ):
        assert refusal(url, "w.pth") == (
            f"{url} could not be downloaded ({reason}): put that file at {downloads}/w.pth, or name a mirror with "
            f"{MIRROR}"
        )
    assert time.monotonic() - started < 5 and not list(downloads.iterdir())
