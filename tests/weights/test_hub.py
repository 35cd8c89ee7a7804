"""Checkpoints over HTTP: the real Hub client against a small Hub on 127.0.0.1, each run in its own process."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import close_session, get_session, set_client_factory
from huggingface_hub.utils import _http
from max_whisper import Progress
from max_whisper.errors import HubError
from max_whisper.weights import hub_guard
from max_whisper.weights.checkpoint import open_checkpoint
from max_whisper.weights.hub_client import progress_bar
from max_whisper.weights.hub_guard import Download, guarded
from support.hub_server import HubServer
from support.models.checkpoint import write_checkpoint
from support.models.ctranslate2_model import write_ctranslate2

REPO = "somebody/whisper-small-thing"
SOURCES = Path(__file__).resolve().parents[2] / "compiler"
TENSOR = "model.decoder.embed_tokens.weight"

# Opens checkpoints and says what it got; the client's pauses between retries are skipped.
DRIVER = f"""
import hashlib, json, resource, signal, sys, time
calls, limit = json.loads(sys.argv[1]), json.loads(sys.argv[2])
time.sleep = lambda seconds: None
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from max_whisper.errors import MaxWhisperError
from max_whisper.weights.checkpoint import open_checkpoint
results = []
for options in calls:
    lines, began = [], time.monotonic()
    try:
        checkpoint = open_checkpoint(**options, progress=lambda progress: lines.append(progress.message))
        embedding = checkpoint.read("{TENSOR}", "float32")
        vocabulary = checkpoint.vocabulary(len(embedding))
        result = dict(repo=checkpoint.repo, commit=checkpoint.commit, tensors=len(checkpoint.source.names()),
                      hash=hashlib.sha256(embedding.tobytes()).hexdigest(), text_tokens=len(vocabulary.ranks))
    except MaxWhisperError as e:
        result = dict(error=type(e).__name__, message=str(e))
    # kB; ru_maxrss would be that of the process of the tests, which this one was forked from.
    memory = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
    results.append(result | dict(progress=lines, seconds=time.monotonic() - began, memory=memory))
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    make(folder, seed=1)
    return folder


def make(folder: Path, **options: Any) -> None:
    write_checkpoint(
        folder, d_model=32, encoder_layers=1, decoder_layers=1, n_audio_ctx=50, n_text_ctx=64, d_ffn=32, **options
    )


def embedding_hash(folder: Path) -> str:
    return hashlib.sha256(open_checkpoint(folder).read(TENSOR, "float32").tobytes()).hexdigest()


def run(
    home: Path, url: str, *, limit: int = 0, environment: dict[str, str] | None = None, **options: Any
) -> dict[str, Any]:
    """Opens a checkpoint in a new process with its own cache, and returns the result or the error."""
    result = run_all(home, url, [options], limit=limit, environment=environment)[0]
    del result["seconds"], result["memory"]
    return result


def run_all(
    home: Path,
    url: str,
    calls: list[dict[str, Any]],
    *,
    limit: int = 0,
    environment: dict[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Opens checkpoints one after the other in one process, and returns their results or errors."""
    foreign = re.compile("(HF_|TRANSFORMERS_).*|.*_PROXY", re.IGNORECASE)
    inherited = {key: value for key, value in os.environ.items() if not foreign.fullmatch(key)}
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "PYTHONPATH": str(SOURCES)}
    process = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([{"weights": REPO} | call for call in calls]), json.dumps(limit)],
        env=inherited | settings | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    results: list[dict[str, Any]] = json.loads(process.stdout)
    for result in results:
        assert all(line.isprintable() for line in [result.get("message", ""), *result["progress"]])
    return results


def assert_error(result: Any, kind: str, *words: str) -> None:
    assert result.get("error") == kind, result
    for word in words:
        assert word in result["message"]


def files_in(home: Path) -> list[str]:
    """Returns the files of a cache, without locks and markers."""
    files = [path for path in home.rglob("*") if path.is_file() or path.is_symlink()]
    return sorted(path.name for path in files if not {".locks", ".no_exist"} & set(path.parts))


def test_branch_moves_on_but_a_pinned_commit_stays(tmp_path: Path, folder: Path, other: Path) -> None:
    with HubServer() as hub:
        old = hub.push(REPO, folder)
        new = hub.push(REPO, other)
        assert old != new
        pinned = run(tmp_path, hub.url, revision=old)
        assert (pinned["commit"], pinned["hash"], pinned["repo"]) == (old, embedding_hash(folder), REPO)
        latest = run(tmp_path, hub.url)
        assert (latest["commit"], latest["hash"]) == (new, embedding_hash(other))
        third = hub.push(REPO, folder, branch="v1")
        assert run(tmp_path, hub.url, revision="v1")["commit"] == third == old


def test_a_cached_commit_needs_no_server(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        commit = hub.push(REPO, folder)
        first = run(tmp_path, hub.url, revision=commit)
        downloaded = [request for request in hub.requests if request.startswith("GET")]
        assert len(downloaded) == len(set(downloaded)) == len(list(folder.iterdir()))
        hub.requests.clear()
        assert run(tmp_path, hub.url, revision=commit) == first
        assert hub.requests == []
    assert run(tmp_path, hub.url, revision=commit) == first  # and with the server gone


def test_a_cached_branch_is_used_and_announced_when_the_server_is_gone(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        commit = hub.push(REPO, folder)
        first = run(tmp_path, hub.url)
        hub.requests.clear()
        run(tmp_path, hub.url)
        assert all(request.startswith("HEAD") for request in hub.requests)  # nothing is downloaded twice
        hub.down = True
        second = run(tmp_path, hub.url)
        assert second["commit"] == commit
        assert f"HTTP 500: try again later; using the cached commit {commit[:12]}" in second["progress"][-1]
    third = run(tmp_path, hub.url)
    assert "cannot be reached" in third["progress"][-1]
    assert f"using the cached commit {commit[:12]}" in third["progress"][-1]
    assert third["hash"] == second["hash"] == first["hash"]


@pytest.mark.parametrize("how", [{"offline": True}, {"environment": {"HF_HUB_OFFLINE": "1"}}])
def test_offline_makes_no_request(tmp_path: Path, folder: Path, how: dict[str, Any]) -> None:
    with HubServer() as hub:
        commit = hub.push(REPO, folder)
        assert_error(run(tmp_path, hub.url, **how), "HubError", REPO, "not in the cache", "run once with a connection")
        assert hub.requests == []
        run(tmp_path, hub.url)
        hub.requests.clear()
        assert run(tmp_path, hub.url, **how)["commit"] == commit
        assert run(tmp_path, hub.url, revision=commit, **how)["commit"] == commit
        assert_error(run(tmp_path, hub.url, revision="v2", **how), "HubError", "'v2'", "not in the cache")
        assert hub.requests == []


def test_offline_with_only_the_configuration_cached(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        hub.push(REPO, folder)
        hub.faults["model.safetensors"] = "500"
        run(tmp_path, hub.url)
        assert_error(run(tmp_path, hub.url, offline=True), "HubError", "its weights are not in the cache")


def test_unknown_things(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        hub.push(REPO, folder)
        assert_error(run(tmp_path, hub.url, weights="some/thing"), "UserError", "no Hub repository 'some/thing'")
        assert_error(run(tmp_path, hub.url, revision="v9"), "UserError", REPO, "has no revision 'v9'")
        assert_error(run(tmp_path, hub.url, weights="not a name"), "UserError", "'not a name'", "Hub repository")
        hub.gated = True
        assert_error(run(tmp_path, hub.url, revision="v9"), "UserError", "gated", "hf auth login")


def test_missing_files(tmp_path: Path, folder: Path) -> None:
    partial = tmp_path / "partial"
    shutil.copytree(folder, partial)
    (partial / "vocab.json").unlink()
    (partial / "added_tokens.json").unlink()
    with HubServer() as hub:
        commit = hub.push(REPO, partial)
        first = run(tmp_path, hub.url, revision=commit)
        assert first["text_tokens"] == 297  # from tokenizer.json
        hub.requests.clear()
        assert run(tmp_path, hub.url, revision=commit) == first
        assert hub.requests == []  # it is remembered that there are no such files
        (partial / "tokenizer.json").unlink()
        hub.push(REPO, partial)
        assert_error(run(tmp_path, hub.url), "WeightsError", "no vocabulary", "tokenizer.json")
        (partial / "config.json").unlink()
        hub.push(REPO, partial)
        assert_error(run(tmp_path, hub.url), "WeightsError", "has no config.json")


def test_a_repository_with_a_pickle_only(tmp_path: Path, folder: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with HubServer() as hub:
        hub.push(REPO, pickled)
        result = run(tmp_path, hub.url)
        assert_error(
            result, "WeightsError", "no model.safetensors", "pytorch_model.bin", "never read", "save_pretrained"
        )
        by_its_name = run(tmp_path, hub.url, weights=f"{REPO}/pytorch_model.bin")
        assert_error(by_its_name, "WeightsError", "pytorch_model.bin is a PyTorch pickle", "never read")
        assert not any("pytorch_model.bin" in request for request in hub.requests)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Returns `folder` as a CTranslate2 model with the files of faster-whisper's repositories."""
    converted = write_ctranslate2(tmp_path_factory.mktemp("converted") / "model", folder, "float16")
    names = json.loads((converted / "vocabulary.json").read_text())
    (converted / "vocabulary.json").unlink()
    (converted / "vocabulary.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    shutil.copy(folder / "tokenizer.json", converted)
    return converted


def test_a_repository_of_faster_whisper(tmp_path: Path, folder: Path, converted: Path) -> None:
    with HubServer() as hub:
        commit = hub.push(REPO, converted)
        first = run(tmp_path, hub.url)
        assert (first["commit"], first["hash"]) == (commit, embedding_hash(converted)) and first["hash"] != ""
        assert first["text_tokens"] == 297
        pinned = run(tmp_path, hub.url, revision=commit)
        assert pinned == first
        hub.requests.clear()
        assert run(tmp_path, hub.url, revision=commit) == first
        assert run(tmp_path, hub.url, offline=True) == first
        assert run(tmp_path, hub.url, revision=commit, environment={"HF_HUB_OFFLINE": "1"}) == first
        assert hub.requests == []
        hub.push(REPO, folder, branch="transformers")
        assert run(tmp_path, hub.url, revision="transformers")["hash"] == embedding_hash(folder)
    assert "using the cached commit" in run(tmp_path, hub.url)["progress"][-1]


def test_faster_whisper_with_faults(tmp_path: Path, converted: Path) -> None:
    with HubServer() as hub:
        hub.push(REPO, converted)
        hub.faults["model.bin"] = "500"
        assert_error(run(tmp_path, hub.url), "HubError", "HTTP 500")
        assert_error(run(tmp_path, hub.url, offline=True), "HubError", "its weights are not in the cache")
        hub.faults["model.bin"] = "garbled"
        assert_error(run(tmp_path, hub.url), "HubError", "model.bin", "not what the Hub announced")
        assert "model.bin" not in files_in(tmp_path)
        hub.faults["model.bin"] = "longer"
        assert_error(run(tmp_path, hub.url), "HubError", "model.bin", "sent more than the")
        hub.faults.clear()
        assert run(tmp_path, hub.url)["hash"] == embedding_hash(converted)


def test_a_pickle_of_the_same_name(tmp_path: Path, folder: Path, converted: Path) -> None:
    pickled = Path(shutil.copytree(folder, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "model.bin")
    with HubServer() as hub:
        hub.push(REPO, pickled)
        assert_error(run(tmp_path, hub.url), "WeightsError", "no model.safetensors", "model.bin", "never read")
        assert not any("model.bin" in request for request in hub.requests)
        (pickled / "model.bin").write_bytes(b"PK\x03\x04\0\0\x08\x08" + bytes(60))
        shutil.copy(converted / "vocabulary.txt", pickled)
        hub.push(REPO, pickled)
        assert_error(run(tmp_path, hub.url), "WeightsError", "model.bin", "never read")


def test_one_file_of_a_repository(tmp_path: Path, folder: Path, other: Path, converted: Path) -> None:
    """A repository with several models, as whisper.cpp's, and with a name that paths may have, too."""
    several = tmp_path / "several"
    several.mkdir()
    for name, source in (("a.bin", converted / "model.bin"), ("b.safetensors", other / "model.safetensors")):
        shutil.copy(source, several / name)
    (several / "README.md").touch()
    with HubServer() as hub:
        first, commit = hub.push("some.body/models.cpp", several), hub.push(REPO, folder)
        wanted = {"weights": "some.body/models.cpp/b.safetensors", "repo": REPO}
        result = run(tmp_path, hub.url, **wanted)
        assert (result["repo"], result["commit"]) == ("some.body/models.cpp/b.safetensors", first)
        assert result["hash"] == embedding_hash(other) and result["text_tokens"] == 297
        assert not any("a.bin" in request for request in hub.requests)
        hub.requests.clear()
        assert run(tmp_path, hub.url, **wanted, offline=True) == result
        assert run(tmp_path, hub.url, **wanted | {"repo": None, "folder": None}, revision=first)["error"]
        assert hub.requests == []
        assert run(tmp_path, hub.url, **wanted | {"weights": "some.body/models.cpp/a.bin"})["hash"] == (
            embedding_hash(converted)
        )
        whole = run(tmp_path, hub.url, weights="some.body/models.cpp")
        assert_error(
            whole, "WeightsError", "no config.json: it has a.bin, b.safetensors", "--weights some.body/models.cpp/a.bin"
        )
        no_file = run(tmp_path, hub.url, weights="some.body/models.cpp/c.bin")
        assert_error(no_file, "WeightsError", "there is no file some.body/models.cpp/c.bin", "it has a.bin, b.saf")
        nothing = run(tmp_path, hub.url, weights="models/whisper/ggml.bin")
        assert_error(nothing, "UserError", "no file models/whisper/ggml.bin", "no Hub repository 'models/whisper'")
        in_it = run(tmp_path, hub.url, weights=f"{REPO}/model.safetensors")
        assert (in_it["repo"], in_it["commit"]) == (f"{REPO}/model.safetensors", commit)
        assert in_it["hash"] == embedding_hash(folder)


def test_one_file_has_the_vocabulary_beside_it(tmp_path: Path, converted: Path) -> None:
    """The spec's own source is not asked for that of a model in a repository of faster-whisper."""
    with HubServer() as hub:
        hub.push(REPO, converted)
        wanted = {"weights": f"{REPO}/model.bin"}
        result = run(tmp_path, hub.url, **wanted)
        assert result.get("text_tokens") == 297, result
        hub.requests.clear()
        assert run(tmp_path, hub.url, **wanted, offline=True) == result
        assert hub.requests == []


def test_shards(tmp_path: Path, folder: Path) -> None:
    sharded = tmp_path / "sharded"
    make(sharded, seed=0, shards=3)
    with HubServer() as hub:
        commit = hub.push(REPO, sharded)
        result = run(tmp_path, hub.url, revision=commit)
        assert result["hash"] == embedding_hash(folder)
        hub.requests.clear()
        assert run(tmp_path, hub.url, revision=commit) == result
        assert hub.requests == []
        shard = "model-00002-of-00003.safetensors"
        (sharded / shard).unlink()
        hub.push(REPO, sharded)
        assert_error(run(tmp_path, hub.url), "WeightsError", shard, "not there")


def test_connection_cut_half_way(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        hub.push(REPO, folder)
        hub.faults["model.safetensors"] = "cut"
        assert_error(run(tmp_path, hub.url), "HubError", REPO, "connection was cut", "run the command again")
        large = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        left = files_in(tmp_path)
        assert large not in left and "model.safetensors" not in left
        assert not any(name.endswith(".incomplete") for name in left)
        hub.faults.clear()
        assert run(tmp_path, hub.url)["hash"] == embedding_hash(folder)


def test_a_download_is_resumed(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        hub.push(REPO, folder)
        hub.faults["model.safetensors"] = "cut once"
        assert run(tmp_path, hub.url)["hash"] == embedding_hash(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json"])
def test_wrong_content(tmp_path: Path, folder: Path, name: str) -> None:
    with HubServer() as hub:
        hub.push(REPO, folder)
        hub.faults[name] = "garbled"
        assert_error(run(tmp_path, hub.url), "HubError", name, "not what the Hub announced", "run the command again")
        assert name not in files_in(tmp_path)
        hub.faults[name] = "short"
        assert_error(run(tmp_path, hub.url), "HubError", REPO, "size", "run the command again")
        hub.faults.clear()
        assert run(tmp_path, hub.url)["hash"] == embedding_hash(folder)


def test_a_cached_file_that_rots_is_fetched_again(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        commit = hub.push(REPO, folder)
        run(tmp_path, hub.url, revision=commit)
        (link,) = tmp_path.rglob("snapshots/*/model.safetensors")
        blob = link.resolve()
        blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
        assert_error(run(tmp_path, hub.url, revision=commit), "HubError", "model.safetensors", "removed from the cache")
        assert run(tmp_path, hub.url, revision=commit)["hash"] == embedding_hash(folder)


def test_a_hub_that_fails(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        hub.push(REPO, folder)
        hub.faults["model.safetensors"] = "500"
        assert_error(run(tmp_path, hub.url), "HubError", REPO, "HTTP 500", "try again later")
        hub.faults.clear()
        hub.delay = 3.0
        slow = run(tmp_path / "new", hub.url, environment={"HF_HUB_ETAG_TIMEOUT": "1"})
        assert_error(slow, "HubError", "did not answer in time")
        hub.delay, hub.down = 0.0, True
        assert_error(run(tmp_path / "new", hub.url), "HubError", "HTTP 500")
    assert_error(run(tmp_path / "new", hub.url), "HubError", "cannot be reached", "local folder")


def test_a_cache_that_cannot_be_written(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        hub.push(REPO, folder)
        size = (folder / "model.safetensors").stat().st_size
        assert_error(run(tmp_path, hub.url, limit=size // 2), "HubError", "cannot be written", "HF_HOME")
        assert run(tmp_path, hub.url)["hash"] == embedding_hash(folder)
        (tmp_path / "file").touch()
        assert_error(run(tmp_path / "file", hub.url), "HubError", "cannot be written", "HF_HOME")


def test_a_single_file_gets_its_vocabulary_from_the_source(tmp_path: Path, folder: Path) -> None:
    alone = tmp_path / "alone" / "tuned.safetensors"
    alone.parent.mkdir()
    shutil.copy(folder / "model.safetensors", alone)
    with HubServer() as hub:
        hub.push(REPO, folder)
        result = run(tmp_path, hub.url, weights=str(alone), repo=REPO)
        assert (result["repo"], result["commit"], result["text_tokens"]) == (None, None, 297)
        assert not any("safetensors" in request for request in hub.requests)
        missing = run(tmp_path, hub.url, weights=str(alone), repo="some/thing")
        assert_error(missing, "UserError", "tuned.safetensors has no vocabulary beside it", "'some/thing'")


def test_the_source_of_a_spec(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        commit = hub.push(REPO, folder)
        assert run(tmp_path, hub.url, weights=None, repo=REPO, revision="main")["commit"] == commit


def test_progress_of_large_files() -> None:
    seen: list[Progress] = []
    sizes: list[int] = []
    make = progress_bar(seen.append, "model.safetensors", sizes.append)
    bar = make(total=20_000_000, initial=0, desc="what the Hub calls it", unit="B", unit_scale=True)
    with bar:
        bar.update(5_000_000)
        bar.refresh()
    assert sizes == [5_000_000]
    assert seen[0] == Progress("downloading model.safetensors: 0 of 20 MB", 0, 20_000_000, "bytes")
    assert Progress("downloading model.safetensors: 5 of 20 MB", 5_000_000, 20_000_000, "bytes") in seen


# --- a mirror that lies

EVIL = {
    "up": "../../../../evil",
    "absolute": "/tmp/max-whisper-evil",
    "dots": "..",
    "dot": ".",
    "backslashes": "..\\..\\evil",
    "encoded": "%2e%2e%2f%2e%2e%2fevil",
    "empty": "",
    "long": "a" * 300,
    "spaces": "a b",
    "escape": "\x1b[2Jevil",
    "latin": "\xe9vil",
}


def outside(home: Path) -> dict[str, bytes | None]:
    """Returns the files beside the cache."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(home.parent.rglob("*"))
        if home not in (path, *path.parents)
    }


def lies(hub: HubServer, folder: Path, name: str, headers: dict[str, dict[str, str | None]]) -> list[dict[str, str]]:
    """Each case has its own repository, whose file `name` is sent with false headers."""
    for case, forged in headers.items():
        hub.push(f"evil/{case}", folder)
        hub.forged[f"evil/{case}", name] = forged
    return [{"weights": f"evil/{case}"} for case in headers]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_etag_that_is_no_name(tmp_path: Path, folder: Path, name: str) -> None:
    home = tmp_path / "above" / "home"
    home.mkdir(parents=True)
    (home.parent / "evil").write_text("precious")
    (home / "evil").write_text("precious")
    before = outside(home)
    header = "ETag" if name == "config.json" else "X-Linked-Etag"
    with HubServer() as hub:
        forged: dict[str, dict[str, str | None]] = {case: {header: f'"{etag}"'} for case, etag in EVIL.items()}
        forged["bare"] = {header: "../../../../evil"}
        forged["weak"] = {header: 'W/"../../../../evil"'}
        for result in run_all(home, hub.url, lies(hub, folder, name, forged)):
            assert_error(result, "HubError", name, "answered with the etag", "expected letters and digits")
    assert outside(home) == before
    assert (home / "evil").read_text() == "precious"
    assert not Path(EVIL["absolute"]).exists()
    assert name not in files_in(home)


def test_a_commit_that_is_none(tmp_path: Path, folder: Path) -> None:
    home = tmp_path / "above" / "home"
    home.mkdir(parents=True)
    before = outside(home)
    names = {**EVIL, "uppercase": "A" * 40, "short": "abc123"}
    forged: dict[str, dict[str, str | None]] = {case: {"X-Repo-Commit": commit} for case, commit in names.items()}
    with HubServer() as hub:
        calls = lies(hub, folder, "config.json", forged)
        (folder_without := tmp_path / "without").mkdir()
        shutil.copy(folder / "config.json", folder_without)
        calls += lies(hub, folder_without, "generation_config.json", {f"absent-{k}": v for k, v in forged.items()})
        calls += lies(hub, folder, "vocab.json", {"another": {"X-Repo-Commit": "0" * 40}})
        *results, another = run_all(home, hub.url, calls)
    for result in results:
        assert_error(result, "HubError", "answered with the commit", "expected 40 hexadecimal digits")
    assert_error(another, "HubError", "answered with the commit 0000", "asked for")
    assert outside(home) == before


def test_headers_that_lie(tmp_path: Path, folder: Path) -> None:
    forged: dict[str, tuple[str, dict[str, str | None], tuple[str, ...]]] = {
        "file": (
            "model.safetensors",
            {"Location": "file:///etc/passwd"},
            ("redirected from http to 'file:///etc/passwd'",),
        ),
        "ftp": ("config.json", {"Location": "ftp://localhost/x"}, ("redirected from http to",)),
        "huge": ("vocab.json", {"Content-Length": "300000000"}, ("announced 300000000 bytes, expected at most",)),
        "weights": ("model.safetensors", {"X-Linked-Size": "9" * 15}, ("announced 999999999999999 bytes",)),
        "nothing": ("config.json", {"ETag": None}, ("is no Hub",)),
        "commitless": ("config.json", {"X-Repo-Commit": None}, ("is no Hub",)),
    }
    calls = []
    with HubServer() as hub:
        for case, (name, headers, _) in forged.items():
            calls += lies(hub, folder, name, {case: headers})
        for result, (_, _, words) in zip(run_all(tmp_path, hub.url, calls), forged.values(), strict=True):
            assert_error(result, "HubError", *words)
    assert not any(name.endswith((".incomplete", "passwd")) for name in files_in(tmp_path))


def test_answers_that_are_no_http(tmp_path: Path, folder: Path) -> None:
    forged: dict[str, dict[str, str | None]] = {
        "nul": {"ETag": '"a\0b"'},
        "newline": {"ETag": "a\nX-Repo-Commit: ../../evil\n"},
        "loop": {"Location": "/evil/loop/resolve/main/config.json"},
        "lengths": {"Content-Length": "5, 7"},
        "negative": {"Content-Length": "-7"},
        "brackets": {"Location": "http://[::1"},
        "many": {"Set-Cookie": "x" * 200_000},
    }
    with HubServer() as hub:
        calls = lies(hub, folder, "config.json", forged)
        hub.statuses["evil/loop", "config.json"] = hub.statuses["evil/brackets", "config.json"] = 302
        results = dict(zip(forged, run_all(tmp_path, hub.url, calls), strict=True))
        for case, result in results.items():
            assert result.get("error") == "HubError", (case, result)
        assert "redirects" in results["loop"]["message"]
        assert len(hub.requests) < 400


def test_bodies_without_end(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        hub.push(REPO, folder)
        whole = sum(path.stat().st_size for path in folder.iterdir())
        for fault, name, words in (
            ("endless", "config.json", "sent more than the"),
            ("endless", "model.safetensors", "sent more than the"),
            ("longer", "vocab.json", "sent more than the"),
            ("bomb", "config.json", "sent more than the"),
            ("error", "config.json", "HTTP 400"),
        ):
            hub.faults, hub.sent = {name: fault}, 0
            home = tmp_path / f"{fault} {name}"
            (result,) = run_all(home, hub.url, [{}])
            assert_error(result, "HubError", REPO, words)
            assert result["memory"] < 400_000, result
            assert hub.sent < 40_000_000, f"{hub.sent} bytes were taken"
            used = sum(path.stat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink())
            assert used <= whole, "the disk holds more than the Hub announced"
        sizeless = lies(hub, folder, "model.safetensors", {"none": {"X-Linked-Size": None}})
        sizeless += lies(hub, folder, "model.safetensors", {"digits": {"X-Linked-Size": "9" * 5000}})
        hub.faults = {"model.safetensors": "endless"}
        for result in run_all(tmp_path, hub.url, sizeless):
            assert_error(result, "HubError", "did not say how large it is")
        hub.faults = {}
        for result in run_all(tmp_path, hub.url, sizeless):  # the download says it
            assert result["hash"] == embedding_hash(folder)
        hub.faults = {"config.json": "gzip", "vocab.json": "gzip"}
        assert run(tmp_path, hub.url)["hash"] == embedding_hash(folder)


def test_a_hub_that_asks_to_wait(tmp_path: Path, folder: Path) -> None:
    """The pauses that remain are the client's own, a few seconds together; the driver skips them."""
    with HubServer() as hub:
        hub.push(REPO, folder)
        hub.push("evil/wait", folder)
        hub.forged["evil/wait", "config.json"] = {"Retry-After": "9" * 4400, "RateLimit": '"api";r=0;t=99999999999'}
        hub.faults["config.json"] = "429"
        (result,) = run_all(tmp_path, hub.url, [{"weights": "evil/wait"}])
        assert_error(result, "HubError", "HTTP 429", "try again later")
        assert len(hub.requests) < 20


def test_warnings_of_the_hub_are_made_printable(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        hub.push("evil/warns", folder)
        hub.forged["evil/warns", "config.json"] = {"X-HF-Warning": "topic; \x1b[2J" + "x" * 5000}
        (result,) = run_all(tmp_path, hub.url, [{"weights": "evil/warns"}])
        assert result["hash"] == embedding_hash(folder)
        assert result["progress"][0].startswith("\\x1b[2Jxxx") and len(result["progress"][0]) <= 300


def test_a_cache_that_leads_out_of_itself(tmp_path: Path, folder: Path) -> None:
    """Older clients, or other programs, may have left the cache like this."""
    home = tmp_path / "home"
    with HubServer() as hub:
        commit = hub.push(REPO, folder)
        run(home, hub.url)
        (link,) = home.rglob("snapshots/*/vocab.json")
        precious = tmp_path / ("a" * 40)  # a name that looks like a hash: the content is not what it says
        precious.write_text("precious")
        link.unlink()
        link.symlink_to(precious)
        for options in ({}, {"offline": True}, {"revision": commit}):
            result = run(home, hub.url, **options)
            assert_error(result, "HubError", "vocab.json is a link that leaves the cache", "remove the folder")
        assert precious.read_text() == "precious"
        (ref,) = home.rglob("refs/main")
        ref.write_text("../../../evil")
        assert "error" in run(home, hub.url, offline=True)
        real = tmp_path / "other disk"
        repository = ref.parents[1]
        shutil.move(repository, real)
        repository.symlink_to(real)
        (real / "refs" / "main").write_text(commit)
        link.unlink()
        assert run(home, hub.url)["hash"] == embedding_hash(folder)  # the user's own link is followed


def test_revisions_that_are_none(tmp_path: Path, folder: Path) -> None:
    with HubServer() as hub:
        commit = hub.push(REPO, folder)
        names = ["../../../evil", "a/../../../../evil", "/evil", "", "a b", "-x", "a\0b", "\x1b[2J", ".", "x" * 300]
        for revision in names:
            hub.branches[REPO, revision] = commit
        results = run_all(tmp_path / "home", hub.url, [{"revision": name} for name in names if name])
        for result in results:
            assert_error(result, "UserError", "expected the name of a branch, a tag or a commit")
        assert hub.requests == []
        hub.branches[REPO, "v1.0-größe_2"] = commit
        assert run(tmp_path / "home", hub.url, revision="v1.0-größe_2")["commit"] == commit


# --- the hooks in the Hub's client


@pytest.fixture
def client() -> Iterator[list[httpx2.Request]]:
    """Installs a factory of clients, as a program may, whose responses are malicious; returns their requests."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        headers = {"ETag": "../evil", "Retry-After": "99999", "RateLimit": "x"}
        return httpx2.Response(200, headers=headers, stream=Drip())

    set_client_factory(lambda: httpx2.Client(transport=httpx2.MockTransport(answer)))
    yield seen
    set_client_factory(_http.default_client_factory)


class Drip(httpx2.SyncByteStream):
    """A body that comes a byte at a time."""

    def __iter__(self) -> Iterator[bytes]:
        yield from [b"x"] * 100


def a_download() -> Download:
    return Download("the file", limit=1000, room=1000)


def test_only_our_own_downloads_are_guarded(client: list[httpx2.Request]) -> None:
    with guarded(a_download()):
        with pytest.raises(HubError, match=r"the file: the Hub at .* answered with the etag"):
            get_session().head("http://hub/x")
        assert get_session().get("http://hub/x").text == "x" * 100
        with ThreadPoolExecutor() as others:
            assert others.submit(lambda: get_session().head("http://hub/x")).result().headers["etag"] == "../evil"
    answer = get_session().head("http://hub/x")
    assert answer.headers["etag"] == "../evil" and answer.headers["retry-after"] == "99999"
    assert [request.headers["accept-encoding"] == "identity" for request in client] == [True, True, False, False]


def test_hooks_are_added_once_and_to_every_client(client: list[httpx2.Request]) -> None:
    for _ in range(3):
        with guarded(a_download()):
            close_session()  # as the Hub's client does when a connection fails
            with pytest.raises(HubError):
                get_session().head("http://hub/x")
            assert len(get_session().event_hooks["response"]) == 1


def test_a_body_that_drips(client: list[httpx2.Request], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(hub_guard.time, "monotonic", lambda: float(next(clock)))
    with guarded(a_download()), pytest.raises(HubError, match=r"sent 61 bytes in 61 s, which is too slow"):
        get_session().get("http://hub/x")


def test_too_many_requests(client: list[httpx2.Request]) -> None:
    with guarded(a_download()):
        for _ in range(hub_guard.MAX_REQUESTS):
            get_session().get("http://hub/x")
        with pytest.raises(HubError, match="needed more than 100 requests"):
            get_session().get("http://hub/x")


def test_a_full_disk_is_known_before(client: list[httpx2.Request]) -> None:
    download = Download("the file", limit=5 << 20, room=1 << 20)
    with (
        guarded(download),
        pytest.raises(HubError, match=r"up to 5 MB, and the disk of .* 1 MB: free some"),
    ):
        get_session().get("http://hub/x")
