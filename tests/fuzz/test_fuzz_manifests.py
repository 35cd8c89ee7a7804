"""Fuzzes artifacts: one that was edited and sealed again is refused with a sentence, or works as before; no crash.

What is loaded is run, in a child process, so that a signal is a finding. The child goes through the cases by itself and
says which one it is at; see `main`.
"""

from __future__ import annotations

import base64
import copy as copying
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import max_whisper
import numpy as np
from blake3 import blake3
from max_whisper.artifact.load import check_artifact
from max_whisper.artifact.manifest import MANIFEST_FILE
from max_whisper.compile.stored_spec import read_spec
from max_whisper.errors import ArtifactError, MaxWhisperError
from support.artifacts import copy, replace, write_fields
from support.harness import Budget, refusal
from support.json_values import places

SECONDS = 5.0
MEL = np.random.default_rng(0).standard_normal((1, 80, 200)).astype(np.float32)
SOUND = (0.1 * np.random.default_rng(1).standard_normal(32000)).astype(np.float32)
RULES = ("tokens", "alignment_heads", "vocab.tiktoken")  # what these say changes the text; the others must not

WRONG: list[Any] = [
    None, True, -1, 0, 1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**53, 2**63, 2**64, 10**30, 0.5, -1.0, 1e308, -1e308,
    "", "x", "0", "a" * 100_000, "\x1b[2J", "a\nb", "../x", "/etc/passwd", "nul\0", "ü", "\ud800", "cuda", "gpu", "I8",
    "BF16", "float16", "bfloat16", "int8", "int64", "encoder.mef", "decoder.mef", [], [[]], [0], {}, {"x": 1},
]  # fmt: skip


def changed(value: Any, rng: random.Random) -> Any:
    """Returns another value: of another kind, or a little different."""
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice([-1, 1, -value, value, 10, 1000, 10**6])
    if isinstance(value, list) and value and rng.random() < 0.6:
        items = list(value)
        return rng.choice(
            [items[1:], items[:-1], items[::-1], items * 2, [*items, items[0]], [*items, rng.choice(WRONG)]]
        )
    if isinstance(value, dict) and value and rng.random() < 0.6:
        items = dict(value)
        key = rng.choice(list(items))
        how = rng.randrange(4)
        if how == 0:
            del items[key]
        elif how == 1:
            items[f"{key}x"] = items[key]
        elif how == 2:
            items[f"{key}x"] = items.pop(key)
        else:
            items[key] = items[rng.choice(list(items))]
        return items
    return rng.choice(WRONG)


def edit_manifest(folder: Path, rng: random.Random) -> tuple[str, str]:
    fields = json.loads((folder / MANIFEST_FILE).read_bytes())
    parts = [(key,) for key in fields if key != "hash"] + [("plan", key) for key in fields["plan"]]
    part = rng.choice(parts)  # first, as most paths are those of tensors
    path = rng.choice([path for path in places(fields) if path[: len(part)] == part])
    parent = fields
    for key in path[:-1]:
        parent = parent[key]
    new = copying.deepcopy(changed(parent[path[-1]], rng))
    told = f"{path}: {str(parent[path[-1]])[:60]!r} -> {str(new)[:60]!r}"
    parent[path[-1]] = new
    write_fields(folder, fields)
    return told, str(path[1] if path[0] == "plan" and len(path) > 1 else path[0])


def reseal(folder: Path, name: str, content: bytes) -> None:
    replace(folder / name, content)
    fields = json.loads((folder / MANIFEST_FILE).read_bytes())
    fields["files"][name] = {"size": len(content), "blake3": blake3(content).hexdigest()}
    write_fields(folder, fields)


def edit_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    return b"\n".join(
        rng.choice(
            [
                [*lines[:at], *lines[at + 1 :]],
                [*lines[:at], lines[at], *lines[at:]],
                [*lines[:at], rng.randbytes(rng.randrange(40)), *lines[at + 1 :]],
                [*lines[:at], base64.b64encode(rng.randbytes(3)) + b" %d" % at, *lines[at + 1 :]],
                [*lines[:at], lines[at].replace(b" ", b"= "), *lines[at + 1 :]],
                [*lines[:at], lines[at] + b"0" * rng.choice([1, 5000]), *lines[at + 1 :]],
                lines[:at],
                lines[::-1],
                [],
            ]
        )
    )


def edit_bytes(content: bytes, rng: random.Random, within: int) -> bytes:
    edited = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        edited[rng.randrange(min(within, len(edited)))] = rng.randrange(256)
    return bytes(edited[: rng.choice([len(edited), len(edited), rng.randrange(len(edited))])])


def edit_json(content: bytes, rng: random.Random) -> bytes:
    fields = json.loads(content)
    path = rng.choice([path for path in places(fields) if path])
    parent = fields
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = changed(parent[path[-1]], rng)
    return json.dumps(fields).encode()


def edit_file(folder: Path, rng: random.Random) -> tuple[str, str]:
    """Edits a file beside the manifest, but no compiled code: whoever edits that may run what he likes."""
    name = rng.choice(["vocab.tiktoken", "spec.json", "weights.safetensors"])
    content = (folder / name).read_bytes()
    if name == "vocab.tiktoken" and rng.random() < 0.7:
        content = edit_lines(content, rng)
    elif name == "spec.json" and rng.random() < 0.7:
        content = edit_json(content, rng)
    else:
        header = 8 + int.from_bytes(content[:8], "little")
        content = edit_bytes(content, rng, header if name == "weights.safetensors" else len(content))
    reseal(folder, name, content)
    return f"{name}: {content[:60]!r}", name


EDITS: dict[str, Callable[[Path, random.Random], tuple[str, str]]] = {"manifest": edit_manifest, "files": edit_file}


def results(folder: Path) -> tuple[bytes, bytes, Any]:
    """Returns what a loaded artifact computes: features, logits, and text."""
    model = max_whisper.load(folder)
    features = model.encode(MEL)
    logits = model.logits(features, [[0, 1, 2]])
    read_spec(folder, check_artifact(folder))
    try:
        text = model.transcribe(SOUND, language="en", word_timestamps=True, max_new_tokens=4, temperature=0.0)
        sample = model.decode(features, language="en", max_new_tokens=3, prompt="a text", temperature=0.5)
        said = (text.text, sample[0].tokens, model.detect_language(features))
    except ArtifactError:
        raise
    except MaxWhisperError as error:  # a language that the model no longer has
        said = str(error)
    return np.asarray(features).tobytes(), logits.tobytes(), said


def main(artifact: Path, scratch: Path, edits: str, budget: Budget) -> None:
    """Tries the cases in this process; the last line of stdout names the current one."""
    right = results(artifact)
    refused = ran = 0
    for number, rng in budget.cases(2000, SECONDS):
        folder = copy(artifact, scratch / str(number))
        told, what = EDITS[edits](folder, rng)
        print(f"case {number}: {told}".encode("ascii", "backslashreplace").decode(), flush=True)
        found: list[Any] = []
        if refusal(lambda: found.append(results(folder)), kind=ArtifactError) is None:  # noqa: B023
            assert found[0][:2] == right[:2], "other features or logits"
            assert what in RULES or found[0] == right, "another text"
            ran += 1
        else:
            refused += 1
    print(f"{refused} refused, {ran} ran")


def child(artifact: Path, scratch: Path, edits: str, budget: Budget) -> None:
    arguments = [str(artifact), str(scratch), edits, budget.name, str(budget.seed), str(budget.hours)]
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    last = (done.stdout.splitlines() or [""])[-1]
    assert done.returncode == 0, f"exit code {done.returncode} at {last}\n{done.stderr[-3000:]}"
    assert not done.stderr
    refused, ran = (int(part.split()[0]) for part in last.split(", "))
    assert refused > 10 and refused > ran, last


def test_manifests(artifact: Path, tmp_path: Path, budget: Budget) -> None:
    child(artifact, tmp_path, "manifest", budget)


def test_files_beside_the_manifest(artifact: Path, tmp_path: Path, budget: Budget) -> None:
    child(artifact, tmp_path, "files", budget)


if __name__ == "__main__":
    _artifact, _scratch, _edits, _name, _seed, _hours = sys.argv[1:]
    main(Path(_artifact), Path(_scratch), _edits, Budget(_name, int(_seed), float(_hours)))
