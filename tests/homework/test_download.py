import hashlib
import http.server
import json
import threading

import pytest

from homework import download

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; the server's `faults` say what to do to each answer in turn: 'truncate', 'corrupt', 'ignore
    range'.
    """

    def do_GET(self):
        fault = self.server.faults.pop(0) if self.server.faults else ""
        start = (
            int(self.headers["Range"].split("=")[1].rstrip("-"))
            if "Range" in self.headers and fault != "ignore range"
            else 0
        )
        self.server.starts.append(start)
        body = CONTENT[start:]
        if fault == "corrupt":
            body = body[:-1] + b"x"
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "truncate" else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.faults, server.starts = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch, server):
    monkeypatch.setenv("HW2_MIRROR", f"http://127.0.0.1:{server.server_port}/")
    entry = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {"a.pt": entry}}))
    return tmp_path


@pytest.mark.parametrize(
    "faults", ["", "truncate", "truncate, truncate", "corrupt", "truncate, ignore range", "truncate, corrupt"]
)
def test_a_bad_connection_still_gives_the_right_file(folder, server, faults):
    server.faults = faults.split(", ")
    assert download.main(["--folder", str(folder)]) == 0
    assert (folder / "a.pt").read_bytes() == CONTENT and not (folder / "a.pt.part").exists()


def test_a_truncated_download_is_resumed_where_it_stopped(folder, server):
    server.faults = ["truncate"]
    download.main(["--folder", str(folder)])
    assert server.starts == [0, len(CONTENT) // 2]


def test_a_wrong_file_never_takes_its_place(folder, server, capsys):
    server.faults = ["corrupt"] * download.ATTEMPTS
    assert download.main(["--folder", str(folder)]) == 2
    assert not (folder / "a.pt").exists()
    assert "a.pt" in capsys.readouterr().err


def test_a_right_file_needs_no_network_and_a_damaged_one_is_replaced(folder, server):
    (folder / "a.pt").write_bytes(CONTENT)
    assert download.main(["--folder", str(folder)]) == 0 and server.starts == []
    (folder / "a.pt").write_bytes(CONTENT[:-5])
    assert download.main(["--folder", str(folder)]) == 0
    assert (folder / "a.pt").read_bytes() == CONTENT


def test_file_urls(folder, monkeypatch, tmp_path_factory):
    source = tmp_path_factory.mktemp("mirror") / "a.pt"
    source.write_bytes(CONTENT)
    monkeypatch.setenv("HW2_MIRROR", source.parent.as_uri())
    assert download.main(["--folder", str(folder)]) == 0
    assert (folder / "a.pt").read_bytes() == CONTENT


def test_without_any_url_the_user_hears_what_to_do(folder, monkeypatch, capsys):
    monkeypatch.delenv("HW2_MIRROR")
    assert download.main(["--folder", str(folder)]) == 2
    assert "HW2_MIRROR" in capsys.readouterr().err


def test_the_released_files_are_the_manifests():
    manifest = json.loads((download.CHECKPOINTS / "manifest.json").read_text())["files"]
    for name, entry in manifest.items():
        path = download.CHECKPOINTS / name
        assert download.sha256(path) == entry["sha256"] and path.stat().st_size == entry["size"]
    assert set(manifest) == {path.name for path in download.CHECKPOINTS.glob("*.pt")}
