"""An exported model goes to a hub: the hub's own client against a stand-in that notes what it is told."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest

from opd_steps.errors import UserError
from opd_steps.models import export
from opd_steps.models.families.drafter import Drafter
from opd_steps.models.folder import save_model
from opd_steps.models.tokenizers import char_tokenizer
from tests.unit.tiny import qwen
from tests.unit.tiny_results import publish

OID = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    told: list[tuple[str, bytes]]
    refuses = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.told.append((self.path, body))
        here = f"http://{self.headers['Host']}"
        if self.refuses:
            return self.answer(403, {"error": "no rights here"})
        if "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
            return self.answer(200, {"files": files})
        done = {"commitOid": OID, "commitUrl": f"{here}/me/small/commit/{OID}", "hookOutput": "", "success": True}
        return self.answer(200, done if "/commit/" in self.path else {"url": f"{here}/me/small", "id": "me/small"})

    def answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def hub(monkeypatch) -> Iterator[type[Hub]]:
    made = type("Told", (Hub,), {"told": []})
    server = HTTPServer(("127.0.0.1", 0), made)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    yield made
    server.shutdown()


@pytest.fixture
def node(tmp_path) -> Path:
    save_model(qwen(), char_tokenizer("abcdef"), tmp_path / "node" / "model")
    publish(tmp_path / "node", {"family": {"name": "causal_lm"}})
    return tmp_path / "node"


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
    export.main()


def test_a_whole_model_goes_to_a_branch(hub, node, tmp_path, monkeypatch, capsys):
    run(monkeypatch, node, tmp_path / "mine", "--hub", "me/small", "--revision", "v1")
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"me/small: uploaded; a model node reads it as path: me/small, revision: {OID}"
    )
    paths = [path for path, _ in hub.told]
    assert paths[0] == "/api/repos/create" and "/api/models/me/small/branch/v1" in paths
    assert json.loads(hub.told[0][1])["visibility"] == "private"
    (sent,) = (body for path, body in hub.told if "/commit/v1" in path)
    lines = [json.loads(line) for line in sent.decode().splitlines()]
    files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "mine").iterdir()}
    assert "model.safetensors" in files and "tokenizer.json" in files


def test_a_hub_that_refuses_and_one_that_is_not_there_are_told_in_one_line(hub, node, tmp_path, monkeypatch):
    export.export(node, tmp_path / "mine")
    monkeypatch.setattr(hub, "refuses", True)
    with pytest.raises(UserError, match=r"^me/small: cannot upload .*no rights here") as error:
        export.upload(tmp_path / "mine", "me/small")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"cannot upload .*'me/small/there'"):
        export.upload(tmp_path / "mine", "me/small/there")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^me/small: cannot upload"):
        export.upload(tmp_path / "mine", "me/small")


def test_a_branch_of_no_repository(node, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, node, tmp_path / "mine", "--revision", "v1")
    assert ended.value.code == 2 and not (tmp_path / "mine").exists()


def test_a_part_of_a_node_and_what_holds_no_model(node, tmp_path):
    shutil.copytree(node / "model", node / "parts/half/model")
    publish(node, {"family": {"name": "causal_lm"}, "parts": {"half": {"family": {"name": "causal_lm"}}}})
    export.export(node / "parts/half", tmp_path / "half")
    assert (tmp_path / "half/model.safetensors").read_bytes() == (node / "model/model.safetensors").read_bytes()
    with pytest.raises(UserError, match="does not exist yet"):
        export.export(tmp_path / "nowhere/at/all", tmp_path / "mine")
    publish(node, {"splits": {}})
    with pytest.raises(UserError, match=r"node: holds no model"):
        export.export(node, tmp_path / "mine")


def test_a_drafter_is_no_checkpoint_of_a_librarys(node, tmp_path, monkeypatch):
    publish(node, {"family": {"name": "drafter"}})
    monkeypatch.setattr(Drafter, "policy", lambda *_, **__: None)
    monkeypatch.setattr(Drafter, "save", lambda self, policy, folder: folder.mkdir())
    with pytest.raises(UserError, match="its model is no checkpoint of a library's"):
        export.export(node, tmp_path / "mine")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["node"]
