"""A stand-in for the Hugging Face hub: a server on this machine that its real client talks to."""

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest


class LocalHub:
    """Repositories in memory, and what was asked for.

    Attributes:
        repositories: By `user/name`: by revision, newest last: files by path.
        requests: Method and path of each request.
        refused: An HTTP status and the hub's code of the error, for all that is asked from then on.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.refused: tuple[int, str] | None = None
        self.endpoint = ""

    def add(self, name: str, files: dict[str, bytes]) -> str:
        """Commit files, all of them; give the commit."""
        commits = self.repositories.setdefault(name, {})
        commit = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits[commit] = files
        return commit

    def add_folder(self, name: str, folder: Path) -> str:
        return self.add(name, {path.name: path.read_bytes() for path in folder.glob("*.*")})

    @property
    def downloaded(self) -> set[str]:
        """Names of the files whose contents were asked for."""
        return {
            path.split("/", 5)[5]
            for method, path in self.requests
            if method == "GET" and "/resolve/" in path
        }


def _handler(hub: LocalHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def tell(self, value: object) -> None:
            self.answer(json.dumps(value).encode(), Content_Type="application/json")

        def refuse(self, status: int, code: str) -> None:
            self.answer(b"{}", status, X_Error_Code=code, X_Error_Message=code)

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path))
            if hub.refused:
                return self.refuse(*hub.refused)
            found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
            asked = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            name, revision = (found or asked)[1], (found or asked)[3 if found else 2]
            commits = hub.repositories.get(name)
            if commits is None:
                return self.refuse(401, "RepoNotFound")
            commit = list(commits)[-1] if revision in (None, "main") else revision
            if commit not in commits:
                return self.refuse(404, "RevisionNotFound")
            files = commits[commit]
            if asked:
                if asked[3] not in files:
                    return self.refuse(404, "EntryNotFound")
                body = files[asked[3]]
                etag = f'"{hashlib.sha1(body).hexdigest()}"'
                return self.answer(body, ETag=etag, X_Repo_Commit=commit)
            if found[2] == "tree":
                return self.tell(
                    [
                        {
                            "type": "file",
                            "path": path,
                            "size": len(body),
                            "oid": hashlib.sha1(body).hexdigest(),
                        }
                        for path, body in files.items()
                    ]
                )
            return self.tell({"id": name, "sha": commit, "siblings": []})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path))
            body = self.read_body()
            if hub.refused:
                return self.refuse(*hub.refused)
            if path == "/api/repos/create":
                given = json.loads(body)
                name = f"{given['organization']}/{given['name']}"
                hub.repositories.setdefault(name, {})
                return self.tell({"url": f"{hub.endpoint}/{name}", "name": name})
            if path == "/api/validate-yaml":
                return self.tell({"errors": [], "warnings": []})
            if "/preupload/" in path:
                modes = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return self.tell({"files": modes})
            name = re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path)[1]
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            commit = hub.add(name, files)
            url = f"{hub.endpoint}/{name}/commit/{commit}"
            return self.tell({"success": True, "commitOid": commit, "commitUrl": url})

        def read_body(self) -> bytes:
            if "Content-Length" in self.headers:
                return self.rfile.read(int(self.headers["Content-Length"]))
            parts = []
            while size := int(self.rfile.readline(), 16):  # chunked
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

    return Handler


@contextlib.contextmanager
def serving() -> Iterator[LocalHub]:
    """Run a hub."""
    hub = LocalHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def talk_to(hub: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the client in this process, which read its variables long ago, talk to a hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
