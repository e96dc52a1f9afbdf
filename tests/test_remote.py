"""Training from a URL: a web server on this machine, with the faults that networks have, and a stand-in for S3."""

import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers import refused, tiny_preset, write_toy_collection
from tars3d import cli, presets
from tars3d.data import fetch
from tars3d.data.frames import Framing
from tars3d.data.pack import pack_collection
from tars3d.data.shards import open_pack, open_packs
from tars3d.data.stream import PictureStream, sampler_of
from tars3d.errors import UserError

HOW = Framing(32, "bbox", 1.2)
SETTINGS = {"batch": 4, "views": 2, "rays": 16, "boundary_rays": 0.5, "flip": True, "seed": 7, "hull_points": 8}


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """Three shards of two objects each, and one of the validation object."""
    splits = {"train": [f"toy{i}" for i in range(6)], "val": ["toy6"]}
    folder = write_toy_collection(tmp_path_factory.mktemp("toys"), objects=7, views=2, splits=splits)
    out = tmp_path_factory.mktemp("shards") / "toys"
    pack_collection(folder, out, HOW, shard_pictures=4, samples=64)
    return out


class Server(ThreadingHTTPServer):
    """Serves a folder; `faults` holds, by file, what goes wrong at its next requests."""

    daemon_threads = True

    def __init__(self, folder: Path):
        self.folder, self.faults, self.asked = folder, {}, []
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        faults = self.server.faults.get(name, [])
        fault = faults.pop(0) if faults else None
        if fault == "dropped":
            self.close_connection = True
            self.connection.close()
        elif isinstance(fault, int):
            self.send_error(fault)
        elif fault in ("ends early", "ends early, unsaid"):
            data = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            if fault == "ends early":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            super().do_GET()


@pytest.fixture
def server(packed, tmp_path):
    pytest.importorskip("aiohttp", reason="extra 'remote' is not installed")
    with Server(Path(shutil.copytree(packed, tmp_path / "served" / "toys")).parent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(fetch, "PATIENCE", (0.0,) * 4)


def draws(source: Path | str) -> list[torch.Tensor]:
    stream = PictureStream(open_packs([source]), HOW)
    stream.windows = 3
    sampler = sampler_of(stream, **SETTINGS)
    batches = [sampler.draw(step) for step in range(5)]
    return [value for batch in batches for value in (batch.images, batch.origins, batch.rgb, batch.hull.points)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def refusal(source: str) -> str:
    with pytest.raises(UserError) as caught:
        draws(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_web_server_gives_what_the_folder_gives(packed, server):
    assert same(draws(f"{server.url}/toys"), draws(packed))
    assert same(draws(f"{server.url}/toys/shards.json"), draws(packed))


def test_training_from_a_web_server_ends_in_the_same_model(packed, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(presets.PRESETS, "tiny", tiny_preset)
    options = ["--preset", "tiny", "--threads", "1", "--device", "cpu"]
    server.faults = {"train-00001.tar": ["ends early"], "train-00002.tar": ["dropped"]}
    for name, source in (("folder", str(packed)), ("url", f"{server.url}/toys")):
        cli.main(["train", source, "--out", str(tmp_path / name), *options])
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("folder", "url"))
    assert all(torch.equal(values, other[key]) for key, values in one.items())
    server.faults = {"shards.json": [404]}
    message = refused(capsys, "train", f"{server.url}/toys", "--out", tmp_path / "none", *options)
    assert f"{server.url}/toys/shards.json: is missing" in message
    assert not (tmp_path / "none" / "settings.json").exists()


@pytest.mark.parametrize("fault", ["dropped", "ends early", "ends early, unsaid", 503])
def test_what_fails_in_passing_is_tried_again(packed, server, fault):
    server.faults = {"train-00001.tar": [fault] * 4}
    assert same(draws(f"{server.url}/toys"), draws(packed))
    assert server.asked.count("train-00001.tar") >= 5


def test_what_stays_is_said(server):
    url, shard = f"{server.url}/toys", "train-00001.tar"
    server.faults = {shard: [404]}
    assert refusal(url).startswith(f"{url}/{shard}: is missing, shards.json names it")
    for fault, words in (("dropped", "tried 5 times"), ("ends early", "tried 5 times"), (503, "503"), (403, "403")):
        server.asked.clear()
        server.faults = {shard: [fault] * 20}
        message = refusal(url)
        assert message.startswith(f"{url}/{shard}: cannot be read (")
        assert words in message
        assert "check the address" in message
        # aiohttp itself asks once more where a connection is dropped without an answer
        assert server.asked.count(shard) in ((1,) if fault == 403 else (5, 10))
    server.faults = {}
    file = server.folder / "toys" / shard
    file.write_bytes(file.read_bytes()[:5000])
    assert f"{url}/{shard}: is cut off after 5,000 of" in refusal(url)


def test_a_host_that_does_not_answer_is_named(server, monkeypatch):
    monkeypatch.setattr("tars3d.data.shards.BRIEF", (0.0,))
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as gone:
        port = gone.server_port
    message = refusal(f"http://127.0.0.1:{port}/toys")
    assert message.startswith(
        f"http://127.0.0.1:{port}/toys/shards.json: cannot be read (Cannot connect to host 127.0.0.1:{port}"
    )
    assert "tried 2 times" in message


@pytest.mark.parametrize(
    ("url", "package", "cure"),
    [
        ("https://example.invalid/toys", "aiohttp", "pip install -c constraints.txt -e '.[remote]'"),
        ("s3://bucket/toys", "s3fs", "pip install -c constraints.txt -e '.[s3]'"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path, capsys, url, package, cure):
    from fsspec.registry import _registry

    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    for protocol in ("http", "https", "s3"):
        monkeypatch.delitem(_registry, protocol, raising=False)
    message = refused(capsys, "train", url, "--out", tmp_path / "run")
    assert f"{url}: needs a package that is not installed; give it with {cure}" in message
    assert not (tmp_path / "run" / "settings.json").exists()


def test_s3_addresses_read_the_same(packed, server, monkeypatch):
    """The stand-in answers GET of /BUCKET/KEY as S3 does; signatures are not looked at."""
    s3fs = pytest.importorskip("s3fs", reason="extra 's3' is not installed")
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    s3fs.S3FileSystem.clear_instance_cache()
    assert same(draws("s3://toys"), draws(packed))
    assert open_pack("s3://toys").url == "s3://toys"
