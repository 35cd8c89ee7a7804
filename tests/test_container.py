"""Tests what can be tested of the Dockerfile without Docker: its files, its options, and how it asks for health."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading

import pytest
from conftest import ROOT
from max_whisper.cli.commands.serve import serve

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")


def instruction(name: str) -> list[str]:
    """Returns the words of the instruction whose value ends with a list."""
    (value,) = re.findall(rf"^{name} [^\[]*(\[.*\])$", DOCKERFILE, re.MULTILINE)
    return json.loads(value)


def test_it_copies_all_that_the_package_is_made_of():
    copied = {*re.findall(r"[\w.]+", " ".join(re.findall(r"^COPY (?!--)(.*) /source", DOCKERFILE, re.MULTILINE)))}
    sent = {*re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE)}
    assert copied == sent and all((ROOT / name).exists() for name in copied)
    project = (ROOT / "pyproject.toml").read_text()
    (included,) = re.findall(r"force-include\]\n((?:.+\n)+)", project)
    assert {"compiler", "LICENSE", "README.md", *re.findall(r'^"(\w+)"', included, re.MULTILINE)} <= copied


def test_its_options_are_those_of_the_server():
    program, command, *options = instruction("ENTRYPOINT")
    assert (program, command) == ("max-whisper", "serve")
    known = {name for parameter in serve.params for name in parameter.opts}
    assert {word for word in options if word.startswith("-")} <= known


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_it_asks_for_the_health_of_the_server(status: int, code: int):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        python, *words = instruction("HEALTHCHECK")
        assert python == "python"
        words = [word.replace("8000", str(server.server_port)) for word in words]
        assert subprocess.run([sys.executable, *words], check=False).returncode == code
        server.shutdown()
