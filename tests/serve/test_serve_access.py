"""Who may use a server: keys, pages of browsers, TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
import trustme
from support.server import Server, server
from support.server_fixtures import COMMANDS

KEY = "a-secret"


@pytest.mark.parametrize("by", ["option", "variable"])
def test_a_key(nano_artifact: Path, tmp_path: Path, by: str) -> None:
    given = ["--api-key", KEY] if by == "option" else []
    env = {"MAX_WHISPER_API_KEY": KEY} if by == "variable" else {}
    with server(tmp_path, "--model", nano_artifact, *given, env=env) as running:
        for key in ("wrong", "a-secre", "a-secret2"):
            with pytest.raises(openai.AuthenticationError) as error:
                running.client(api_key=key).audio.transcriptions.create(file=COMMANDS, model="nano")
            assert error.value.code == "invalid_api_key"
            assert error.value.request_id
        assert running.client(api_key=KEY).audio.transcriptions.create(file=COMMANDS, model="nano").text
        assert running.get("/v1/models", auth=("anybody", KEY)).status_code == 200
        assert running.get("/v1/models", auth=(KEY, "anything")).status_code == 401
        for header in ("Basic !", "Basic", "Bearer", KEY, "Bearer \xe9"):
            assert running.get("/v1/models", headers={"authorization": header.encode("latin-1")}).status_code == 401
        assert running.get("/metrics").status_code == 401
        assert running.get("/health").status_code == 200


def test_pages_of_others_are_refused(shared: Server) -> None:
    host = shared.url.removeprefix("http://")
    for origin, status in ((f"http://{host}", 200), ("https://example.org", 403), ("null", 403), ("http://[::1", 403)):
        response = shared.get("/v1/models", headers={"origin": origin})
        assert response.status_code == status
        assert "access-control-allow-origin" not in response.headers
    refused = shared.post("/v1/audio/transcriptions", files={"file": COMMANDS.read_bytes()}, headers={"origin": "null"})
    assert refused.json()["error"]["code"] == "origin_not_allowed"


def test_pages_that_are_allowed(nano_artifact: Path, tmp_path: Path) -> None:
    origin = "https://example.org"
    with server(tmp_path, "--model", nano_artifact, "--cors-origin", origin, "--api-key", KEY) as running:
        asks = {
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        url = f"{running.url}/v1/audio/transcriptions"
        before = httpx2.request("OPTIONS", url, headers=asks, trust_env=False)
        assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, origin)
        response = running.get("/v1/models", headers={"origin": origin, "authorization": f"Bearer {KEY}"})
        assert response.headers["access-control-allow-origin"] == origin
        assert "x-request-id" in response.headers["access-control-expose-headers"].lower()
        assert running.get("/v1/models", headers={"origin": "https://example.com"}).status_code == 403


def test_tls(nano_artifact: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(certfile)
    certificate.private_key_pem.write_to_path(keyfile)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    (tmp_path / "temporary").mkdir()
    options = ["--model", nano_artifact, "--ssl-certfile", certfile, "--ssl-keyfile", keyfile]
    with server(tmp_path / "temporary", *options) as running:
        assert running.url.startswith("https://")
        with openai.DefaultHttpxClient(verify=context, trust_env=False) as transport:
            client = running.client(http_client=transport)
            assert client.audio.transcriptions.create(file=COMMANDS, model="nano").text
        with pytest.raises(openai.APIConnectionError):
            running.client().models.list()


def test_other_names_are_refused(nano_artifact: Path, tmp_path: Path) -> None:
    """A page of somebody else's can make a name of its own stand for 127.0.0.1."""
    with server(tmp_path, "--model", nano_artifact, "--allow-host", "Voice.example") as running:
        port = running.url.rpartition(":")[2]
        names = ("localhost", f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "[::1]", "voice.EXAMPLE:80")
        for host in names:
            assert running.get("/v1/models", headers={"host": host}).status_code == 200, host
        for host in ("example.org", f"example.org:{port}", "127.0.0.1.example.org", "[::2]", "x"):
            refused = running.get("/v1/models", headers={"host": host, "origin": f"http://{host}"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed"), host
    with server(tmp_path, "--model", nano_artifact, "--api-key", KEY) as running:  # such a page has no key
        headers = {"host": "example.org", "authorization": f"Bearer {KEY}"}
        assert running.get("/v1/models", headers=headers).status_code == 200


def test_a_refused_upload_is_not_asked_for(nano_artifact: Path, tmp_path: Path) -> None:
    with server(tmp_path, "--model", nano_artifact, "--api-key", KEY) as running:
        parts = urlsplit(running.url)
        head = (
            "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\nexpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as opened:
            opened.sendall(head.encode())
            assert opened.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
