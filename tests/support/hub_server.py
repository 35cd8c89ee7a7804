"""Serves a small Hugging Face Hub on 127.0.0.1: the part of its HTTP interface that downloads use, and its faults.

Large files are answered as the Hub does: a redirect to another URL, with their SHA-256 and size in `X-Linked-*`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")  # kept in Git LFS


class HubServer:
    """Repositories with commits and branches, served while the context is open.

    Attributes:
        requests: Every request as "METHOD path", in order.
        faults: What the download of a file does, by the file's name: "cut" (the connection ends half-way, resumed or
            not), "cut once", "garbled" (one byte differs), "short" (half of the content, complete), "endless" (zeros
            without a length and without an end), "longer" (zeros, more than the length that HEAD announces), "gzip"
            (the content, compressed), "bomb" (300 MB of zeros, compressed), "error" (HTTP 400 with an endless page),
            "429" or "500".
        forged: Headers of the answers for a (repo, file name), in place of the right ones; None leaves one out.
        statuses: The status of the answers for a (repo, file name), where it is not the right one.
        sent: The number of bytes of endless bodies that were taken.
        down: Whether every request is answered with HTTP 500.
        delay: Seconds before any answer.
        gated: Whether nobody may read anything.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.faults: dict[str, str] = {}
        self.forged: dict[tuple[str, str], dict[str, str | None]] = {}
        self.statuses: dict[tuple[str, str], int] = {}
        self.sent = 0
        self.down = False
        self.gated = False
        self.delay = 0.0
        self.commits: dict[tuple[str, str], dict[str, bytes]] = {}  # (repo, commit) -> files
        self.branches: dict[tuple[str, str], str] = {}  # (repo, branch) -> commit
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.large_url = f"http://localhost:{self._http.server_port}/large"  # another host, as the Hub's is

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuses connections from now on."""
        self._http.shutdown()
        self._http.server_close()

    def push(self, repo: str, folder: Path, branch: str = "main") -> str:
        """Commits the files of a folder to a branch; returns the commit's hash."""
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        digest = hashlib.sha1(repr([(name, hashlib.sha1(data).digest()) for name, data in files.items()]).encode())
        commit = digest.hexdigest()
        self.commits[repo, commit] = files
        self.branches[repo, branch] = commit
        return commit

    def find(self, repo: str, revision: str) -> str | None:
        """Returns the commit that a revision names."""
        return revision if (repo, revision) in self.commits else self.branches.get((repo, revision))


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    forged: dict[str, str | None] = {}  # noqa: RUF012 - of this request
    forged_status: int | None = None

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        time.sleep(self.hub.delay)
        path = unquote(urlsplit(self.path).path)
        self.forged, self.forged_status = {}, None
        if self.hub.down:
            self.reply(500)
        elif self.hub.gated:
            self.reply(403, {"X-Error-Code": "GatedRepo"})
        elif match := re.fullmatch("/large/([0-9a-f]{64})/(.+)", path):
            contents = (files.get(match[2], b"") for files in self.hub.commits.values())
            self.download(match[2], next(c for c in contents if hashlib.sha256(c).hexdigest() == match[1]), {})
        elif match := re.fullmatch("/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self.revision(match[1], match[2])
        elif match := re.fullmatch("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.forged = self.hub.forged.get((match[1], match[3]), {})
            self.forged_status = self.hub.statuses.get((match[1], match[3]))
            self.revision(match[1], match[2], match[3])
        else:
            self.reply(404)

    def revision(self, repo: str, revision: str, name: str | None = None) -> None:
        """Answers with a file of a revision, or with the list of its files."""
        if not any(known == repo for known, _ in self.hub.commits):
            return self.reply(401, {"X-Error-Code": "RepoNotFound"})  # the Hub does not tell which ones are private
        commit = self.hub.find(repo, revision)
        if commit is None:
            return self.reply(404, {"X-Error-Code": "RevisionNotFound"})
        files = self.hub.commits[repo, commit]
        headers = {"X-Repo-Commit": commit}
        if name is None:
            tree = [
                {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)} for path, data in files.items()
            ]
            return self.reply(200, headers | {"Content-Type": "application/json"}, json.dumps(tree).encode())
        if name not in files:
            return self.reply(404, headers | {"X-Error-Code": "EntryNotFound"})
        if not name.endswith(LARGE):
            return self.download(name, files[name], headers | {"ETag": f'"{git_hash(files[name])}"'})
        digest = hashlib.sha256(files[name]).hexdigest()
        headers |= {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(files[name]))}
        return self.reply(302, headers | {"Location": f"{self.hub.large_url}/{digest}/{name}"})

    def download(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        """Answers with a file, or with the part that the Range header asks for; with the fault of the file, if any."""
        fault = self.hub.faults.get(name) if self.command == "GET" else None
        start = int(re.sub(r"\D", "", self.headers.get("Range", "bytes=0-")))
        if fault in ("429", "500"):
            return self.reply(int(fault))
        if fault == "endless":
            return self.endless(200, headers)
        if fault == "error":
            return self.endless(400, {"Content-Type": "text/plain"})
        if fault == "longer":
            content = bytes(len(content) + 200_000_000)
        if fault == "gzip":
            return self.reply(200, headers | {"Content-Encoding": "gzip"}, gzip.compress(content))
        if fault == "bomb":
            return self.reply(200, headers | {"Content-Encoding": "gzip"}, gzip.compress(bytes(300_000_000), 9))
        if fault == "garbled":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "short":
            content = content[: len(content) // 2]
        status = 200
        if "Range" in self.headers:
            status = 206
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        if fault in ("cut", "cut once"):
            if fault == "cut once":
                del self.hub.faults[name]
            self.reply(status, headers, content[start : len(content) // 2], length=len(content) - start)
            self.close_connection = True
            return None
        return self.reply(status, headers, content[start:])

    def reply(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", length: int | None = None
    ) -> None:
        self.start(status, {**(headers or {}), "Content-Length": str(len(body) if length is None else length)})
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):  # whoever does not want it closes the connection
                self.wfile.write(body)

    def start(self, status: int, headers: dict[str, str]) -> None:
        """Sends the head of an answer, with the forged headers."""
        self.send_response(self.forged_status or status)
        for name, value in {**headers, **self.forged}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def endless(self, status: int, headers: dict[str, str]) -> None:
        """Sends a body that goes on until the connection is closed, or for a gigabyte."""
        self.start(status, headers | {"Transfer-Encoding": "chunked"})
        self.close_connection = True
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with contextlib.suppress(ConnectionError):
            while self.hub.sent < 1_000_000_000:
                self.wfile.write(chunk)
                self.hub.sent += 0x10000


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
