# SPDX-License-Identifier: Apache-2.0
"""Datasets: a local folder of Parquet is the offline case; the files are pyarrow's own."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.data.manifest import Manifest
from model.data.prepare import prepare
from model.data.source import HuggingFaceDataset, TextFiles

datasets = pytest.importorskip("datasets")

TEXTS = [f"document {i}: " + "so it goes on. " * (i % 5) + "é" for i in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, texts in (("train", TEXTS), ("test", ["held out", "as it is"] * 3)):
        rows = {"body": texts, "meta": [{"text": text.upper()} for text in texts]}
        pq.write_table(pa.table(rows), root / f"{name}-00000-of-00001.parquet")
    return root


def tokens(where: Path) -> list[np.ndarray]:
    return [np.load(where / f"{split}.npy") for split in ("train", "validation")]


def test_a_local_folder_is_as_its_files_read_by_ourselves(folder, tmp_path) -> None:
    source = HuggingFaceDataset(
        path=str(folder), split="train", text_field="body", validation_fraction=0.3
    )
    found = prepare(source, tmp_path / "a")
    files = TextFiles(
        paths=(str(folder / "train-00000-of-00001.parquet"),),
        text_field="body",
        validation_fraction=0.3,
    )
    assert found.fingerprint == prepare(files, tmp_path / "b").fingerprint
    assert found.n_documents == len(TEXTS)


def test_a_split_is_held_out_as_it_is_and_fields_are_nested(folder, tmp_path) -> None:
    source = HuggingFaceDataset(
        path=str(folder), split="train", text_field="meta.text", validation_split="test"
    )
    prepare(source, tmp_path / "a")
    train, validation = (one.tobytes() for one in tokens(tmp_path / "a"))
    assert validation == b"HELD OUT\0AS IT IS\0" * 3
    assert train == b"".join(text.upper().encode() + b"\0" for text in TEXTS)


def test_a_folder_is_known_by_its_digest(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "copy")

    def digest(path: Path) -> str:
        source = HuggingFaceDataset(
            path=str(path), split="train", text_field="body", validation_split="test"
        )
        (note,) = [n for n in prepare(source, tmp_path / "out").notes if "digest" in n]
        return note.split("digest ")[1]

    assert digest(folder) == digest(tmp_path / "copy")
    rows = {"body": [*TEXTS[:-1], "another"], "meta": [{"text": ""}] * 60}
    pq.write_table(pa.table(rows), tmp_path / "copy" / "train-00000-of-00001.parquet")
    assert digest(folder) != digest(tmp_path / "copy")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
API, FILES = "/api/datasets/some/name", f"/datasets/some/name/resolve/{COMMIT}/"


class Hub(ThreadingHTTPServer):
    """A hub on this machine, with one dataset at one commit.

    Attributes:
      files: of the dataset, by name. asked: what was.
    """

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files, self.asked = files, list[str]()


class _Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        """Which of these paths there are."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_json = "json" in self.headers["Content-Type"]
        named = json.loads(body)["paths"] if is_json else parse_qs(body)["paths"]
        self._listed([name for name in self.server.files if name in named])

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.asked.append(path)
        name = path.removeprefix(FILES)
        if path == f"{API}/revision/{COMMIT}":
            about = {"id": "some/name", "sha": COMMIT, "private": False, "gated": False}
            self._send(json.dumps(about | {"downloads": 0, "likes": 0, "tags": []}).encode())
        elif path == f"{API}/tree/{COMMIT}":
            self._listed(self.server.files)
        elif path.startswith(FILES) and name in self.server.files:
            self._send(self.server.files[name])
        else:
            reason = "Entry" if COMMIT in path else "Revision"
            self._send(b"", status=404, headers={"X-Error-Code": f"{reason}NotFound"})

    def _listed(self, names: object) -> None:
        found = [
            {"type": "file", "path": name, "size": len(content), "oid": name}
            for name, content in self.server.files.items()
            if name in names  # type: ignore[operator]
        ]
        self._send(json.dumps(found).encode())

    def _send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        size = len(body)
        if status == 200 and (asked := self.headers["Range"]):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or size - 1), size - 1)
            body, status = body[int(first) : end + 1], 206
            headers = {"Content-Range": f"bytes {first}-{end}/{size}"}
        self.send_response(status)
        known = {"X-Repo-Commit": COMMIT, "ETag": '"x"', "Accept-Ranges": "bytes"}
        for key, value in {**known, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub(folder) -> Iterator[Hub]:
    with Hub({path.name: path.read_bytes() for path in folder.iterdir()}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def prepared_from(hub: Hub, revision: str, tmp_path: Path) -> str:
    """The manifest of a dataset of this hub, or why there is none. In a process of its own, for
    the library asks once where the hub is."""
    code = (
        "import sys\n"
        "from model.data.prepare import prepare\n"
        "from model.data.source import HuggingFaceDataset\n"
        "source = HuggingFaceDataset(path='some/name', revision=sys.argv[1], split='train',\n"
        "    text_field='body', validation_split='test')\n"
        "try: print(prepare(source, sys.argv[2]).to_json())\n"
        "except ValueError as error: print(error)\n"
    )
    address = f"http://127.0.0.1:{hub.server_port}"
    own = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", code, revision, str(tmp_path / "out")],
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def test_a_name_of_the_hub_is_streamed_at_its_revision_which_is_recorded(
    folder, hub, tmp_path
) -> None:
    found = Manifest.from_json(prepared_from(hub, COMMIT, tmp_path))
    assert f"Dataset some/name, revision {COMMIT}: train and test." in found.notes
    assert found.source["revision"] == COMMIT
    local = HuggingFaceDataset(
        path=str(folder), split="train", text_field="body", validation_split="test"
    )
    assert found.fingerprint == prepare(local, tmp_path / "local").fingerprint
    assert {path for path in hub.asked if path.endswith(".parquet")} == {
        FILES + path.name for path in folder.iterdir()
    }
    named = [path for path in hub.asked if re.search("/(resolve|revision|tree)/", path)]
    assert [path for path in named if COMMIT not in path] == []
    assert not list((tmp_path / "home").rglob("*.parquet")), "nothing is downloaded whole"


def test_a_revision_that_the_hub_lacks_is_one_line(hub, tmp_path) -> None:
    told = prepared_from(hub, "f" * 40, tmp_path)
    assert told.startswith("dataset 'some/name' cannot be read: ")
    assert "f" * 40 in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "some/name"}, "dataset 'some/name' is no folder here, and has no revision"),
        ({"split": "nothing"}, "cannot be read: .*nothing"),
        (
            {"text_field": "nothing"},
            r"row 1 of split 'train' .* in 'nothing' \(it has body, meta\)",
        ),
        ({"validation_fraction": None}, "is None and validation_split is None: give one of them"),
        (
            {"validation_fraction": None, "validation_split": "train"},
            "it must be another split than the one trained on",
        ),
        ({"revision": ""}, "revision of source 'dataset' is ''"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(folder, tmp_path, fields, message) -> None:
    given = {
        "path": str(folder),
        "split": "train",
        "text_field": "body",
        "validation_fraction": 0.3,
    }
    with pytest.raises(ValueError, match=message) as caught:
        prepare(HuggingFaceDataset(**given | fields), tmp_path / "out")
    assert "\n" not in str(caught.value)
