"""Fuzzes the server: whatever a field, header or body holds, it answers with a status and one sentence, and lives."""

from __future__ import annotations

import random
import socket
from urllib.parse import urlencode, urlsplit

import httpx2
from max_whisper.messages import LONGEST_MESSAGE
from support.harness import Budget
from support.server import Server
from support.server_fixtures import COMMANDS

FIELDS = (
    "model", "language", "languages[]", "languages", "prompt", "keywords[]", "keywords", "response_format",
    "temperature", "timestamp_granularities[]", "include[]", "chunking_strategy", "chunking_strategy[type]",
    "chunking_strategy[threshold]", "chunking_strategy[silence_duration_ms]", "stream", "known_speaker_names[]", "file",
    "model[]", "", "[]", "x" * 5000, "\x00", "é", "a[b][c]", "prompt\r\nx: y",
)  # fmt: skip
VALUES = (
    "", " ", "nano", "english", "multilingual", "whisper-1", "json", "text", "srt", "vtt", "verbose_json",
    "diarized_json", "0", "1", "-1", "0.2", "1e308", "1e400", "nan", "inf", "9" * 5000, "true", "false", "True",
    "None", "null", "word", "segment", "logprobs", "auto", "server_vad", "en", "de", "zz", "\x00", "\x1b[2J",
    "é" * 300, "\udcff", "{}", "[]", '{"type": "server_vad"}', '{"type": "server_vad", "threshold": "x"}',
    '{"type": []}', "[" * 5000, "x" * 120_000, "<|startoftranscript|>", "one two",
)  # fmt: skip
HEADERS = (
    "authorization", "origin", "content-type", "accept", "x-request-id", "content-encoding", "range", "cookie", "te",
    "transfer-encoding", "expect", "host",
)  # fmt: skip
HEADER_VALUES = (
    "", "x", "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "x" * 5000,
    "application/json", "application/x-www-form-urlencoded", "Bearer ", "Basic e", "null", "http://[::1", "gzip", "é",
    "bytes=0-1", "x" * 5000, "multipart/form-data; charset=utf-99; boundary=x", "-1", "100-continue",
)  # fmt: skip
STATUSES = {200, 400, 403, 404, 405, 413, 415, 429}


OTHERS = ("/asr", "/detect-language", "/page-data/transcriptions")
QUERY = (
    "encode", "task", "language", "initial_prompt", "vad_filter", "word_timestamps", "output", "diarize", "model",
    "video_file", "min_speakers", "", "x" * 3000, "é", "\x00",
)  # fmt: skip


def check(response: httpx2.Response, case: object) -> None:
    """Fails unless a response is an answer, or an error in OpenAI's form with one sentence that is safe to print."""
    assert response.status_code in STATUSES, (case, response.status_code, response.text[:500])
    assert response.headers["x-request-id"].startswith("req_")
    if response.status_code != 200:
        answer = response.json()
        if "detail" in answer:  # the form of Bazarr's addresses
            message = answer["detail"]
        else:
            message = answer["error"]["message"]
            assert answer["error"].keys() == {"message", "type", "param", "code"}, case
        assert message.isprintable(), case
        assert 10 < len(message) <= LONGEST_MESSAGE, case
        assert "bug" not in message, case


def value(numbers: random.Random) -> bytes:
    text = numbers.choice(VALUES)
    data = text.encode("utf-8", "surrogateescape")
    return numbers.randbytes(numbers.randint(0, 40)) if numbers.random() < 0.1 else data


def body(numbers: random.Random, sound: bytes) -> bytes:
    """Returns a form with fields that nobody sends, sometimes damaged."""
    parts = [b'Content-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n' + sound]
    for _ in range(numbers.randint(0, 3)):
        name = numbers.choice(FIELDS).encode()
        parts.append(b'Content-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value(numbers))
    numbers.shuffle(parts)
    whole = bytearray(b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + b"--B--\r\n")
    if numbers.random() < 0.3:
        for _ in range(numbers.randint(1, 5)):
            whole[numbers.randrange(len(whole))] = numbers.randrange(256)
    if numbers.random() < 0.2:
        del whole[numbers.randrange(len(whole)) :]
    return bytes(whole)


def test_forms(shared: Server, budget: Budget) -> None:
    sound = COMMANDS.read_bytes()
    for number, numbers in budget.cases(150, seconds=45):
        content = body(numbers, sound)
        path = numbers.choice(["transcriptions", "translations"])
        headers = {"content-type": "multipart/form-data; boundary=B"}
        check(shared.post(f"/v1/audio/{path}", content=content, headers=headers), (number, content[-300:]))
    shared.wait_until_idle()
    assert shared.left_files() == []


def test_forms_and_queries_of_other_addresses(shared: Server, budget: Budget) -> None:
    sound = COMMANDS.read_bytes()
    headers = {"content-type": "multipart/form-data; boundary=B"}
    for number, numbers in budget.cases(100, seconds=45):
        file = numbers.choice([b"file", b"audio_file", b"audio_file"])
        content = body(numbers, sound).replace(b'name="file"; filename', b'name="' + file + b'"; filename')
        values = [text for text in VALUES if len(text) < 5000]
        pairs = [
            (numbers.choice(QUERY), numbers.choice(values).encode("utf-8", "surrogateescape"))
            for _ in range(numbers.randint(0, 3))
        ]
        path = numbers.choice(OTHERS) + "?" + urlencode(pairs)
        check(shared.post(path, content=content, headers=headers), (number, path, content[-300:]))
    for path in ("/page-data/models", "/page-data/models/nano/layers", "/page-data/models/%00/layers", "/status?%ff"):
        check(shared.get(path), path)
    shared.wait_until_idle()
    assert shared.left_files() == []


def test_headers(shared: Server, budget: Budget) -> None:
    """Each header with each value, and then several. Clients refuse to send most of these, so they are sent as bytes.

    The connection may be closed without an answer.
    """
    pairs = [(name, text) for name in HEADERS for text in HEADER_VALUES]
    parts, sound = urlsplit(shared.url), COMMANDS.read_bytes()
    answered = 0
    for number, numbers in budget.cases(len(pairs) + 50, seconds=120):
        content = body(numbers, sound)
        lines = [b"POST /v1/audio/transcriptions HTTP/1.1", b"content-length: " + str(len(content)).encode()]
        lines += [b"content-type: multipart/form-data; boundary=B", b"connection: close", b"host: 127.0.0.1"]
        named = pairs[number % len(pairs)]
        for name, text in (named, *numbers.choices(pairs, k=numbers.randint(0, 2) if number >= len(pairs) else 0)):
            lines.insert(numbers.randint(1, len(lines)), f"{name}: {text}".encode())
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as opened:
            try:
                opened.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + content)
                reply = b"".join(iter(lambda: opened.recv(1 << 16), b""))
            except ConnectionError:
                continue
        status = reply.partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 ")[:3]
        assert status in {str(known).encode() for known in STATUSES} | {b"", b"100"}, (number, lines, reply[:500])
        answered += status == b"200"
    assert answered
    assert shared.get("/health").status_code == 200
    shared.wait_until_idle()


def test_paths(shared: Server, budget: Budget) -> None:
    """Paths of all kinds of parts, as bytes: clients would make proper ones of them."""
    parts = urlsplit(shared.url)
    words = [
        b"v1", b"audio", b"models", b"..", b".", b"%2e%2e", b"%00", b"\xc3\xa9", b"\xff", b"%ff", b"transcriptions",
        b"health", b"page", b"page-data", b"nano", b"layers", b"main.js", b"asr", b"", b"?", b"#", b"%", b"%2f", b"\\",
    ]  # fmt: skip
    answered = 0
    for number, numbers in budget.cases(300, seconds=20):
        path = b"/" + b"/".join(numbers.choices(words, k=numbers.randint(1, 5)))
        method = numbers.choice(["GET", "GET", "GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"]).encode()
        head = method + b" " + path + b" HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as opened:
            opened.sendall(head)
            reply = b"".join(iter(lambda: opened.recv(1 << 16), b""))
        status = reply.partition(b"\r\n")[0].removeprefix(b"HTTP/1.1 ")[:3]
        known = {str(status).encode() for status in (*STATUSES, 307)}  # the last for a slash at the end
        assert status in known, (number, method, path, reply[:500])
        answered += status == b"200"
    assert answered
    assert not [line for line in shared.lines if "Traceback" in line or "Error" in line], shared.lines
