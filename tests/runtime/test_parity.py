"""Small models against what transformers computed for them (see make_golden.py): every layer, and the outputs.

With our kernels, and with MAX's own, which GPU builds use. All of MAX's models in float32 have one graph, those in
bfloat16 another: compiling its matrix products takes a minute or two of both cores each, so there are no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import max_whisper
import numpy as np
import numpy.typing as npt
import pytest
from golden.make_parity import LAYER_SAMPLE, MODELS, OUTPUT_SAMPLE, SOUNDS, golden_file, sample, weights_hash
from max_whisper.artifact.manifest import SPEC_FILE
from max_whisper.spec import Spec
from max_whisper.tools.verify.verify import compare, layer_outputs
from support.models.checkpoint import write_checkpoint
from support.models.small import SMALL, WINDOW

OURS = [(*model, "ours") for model in MODELS]
MAX = [(*model, "max") for model in MODELS]

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Case:
    folder: Path
    model: max_whisper.Model
    golden: Arrays

    def mel(self, sound: str) -> npt.NDArray[np.float32]:
        return self.golden[f"{sound} mel"][None].astype(np.float32)

    def tokens(self, sound: str) -> npt.NDArray[np.int64]:
        """Returns the prompt and the greedy tokens, [1, length]."""
        return np.concatenate([self.golden[f"{sound} prompt"], self.golden[f"{sound} tokens"]])[None]


def read_golden(family: str, seed: int) -> Arrays:
    with np.load(golden_file(family, seed)) as file:
        return dict(file)


@pytest.fixture(scope="module", params=[*OURS, *MAX], ids=lambda model: "-".join(map(str, model)))
def case(request: pytest.FixtureRequest, spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    family, seed, kernels = request.param
    golden = read_golden(family, seed)
    home = tmp_path_factory.mktemp("parity")
    checkpoint = write_checkpoint(home / "checkpoint", family=family, seed=seed, n_vocab=SMALL["n_vocab"])
    if weights_hash(checkpoint) != golden["weights"]:
        pytest.fail("the weights are not the golden file's: after a change of models/checkpoint.py, make it again")
    folder = max_whisper.build(spec, weights=checkpoint, dtype="float32", out=home / "artifact", kernels=kernels)
    return Case(folder, max_whisper.load(folder), golden)


@pytest.fixture(scope="module")
def layers(case: Case) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
    """Sound -> path -> output of every layer, from graphs that are compiled to give them."""
    spec = Spec.from_canonical(json.loads((case.folder / SPEC_FILE).read_text()))
    windows = [(case.mel(sound), case.tokens(sound)) for sound in SOUNDS]
    outputs = layer_outputs(case.folder, case.model.manifest, spec, windows, lambda message: None)
    return dict(zip(SOUNDS, outputs, strict=True))


@pytest.mark.parametrize("sound", SOUNDS)
def test_features_and_logits(case: Case, sound: str) -> None:
    features = np.asarray(case.model.encode(case.mel(sound)))
    logits = case.model.logits(features, case.tokens(sound))
    expected = {name: case.golden[f"{sound} {name}"] for name in ("features", "logits")}
    found = {"features": sample(features, OUTPUT_SAMPLE), "logits": sample(logits, OUTPUT_SAMPLE)}
    assert [row for row in compare(found, expected, "float32") if not row.passed] == []


@pytest.mark.parametrize("sound", SOUNDS)
def test_greedy_tokens(case: Case, sound: str) -> None:
    expected = case.golden[f"{sound} tokens"].tolist()
    features = case.model.encode(case.mel(sound))
    options = {"language": "en", "without_timestamps": True, "max_new_tokens": len(expected)}
    assert case.model.decode(features, **options)[0].tokens == expected


SLOW = pytest.param(MAX[0], marks=pytest.mark.slow)  # one more graph


@pytest.mark.parametrize("case", [*OURS, SLOW], indirect=True, ids=lambda model: "-".join(map(str, model)))
@pytest.mark.parametrize("sound", SOUNDS)
def test_every_layer(case: Case, layers: Mapping[str, Arrays], sound: str) -> None:
    expected = dict(zip(case.golden["paths"].tolist(), case.golden[f"{sound} layers"], strict=True))
    found = {path: sample(output, LAYER_SAMPLE) for path, output in layers[sound].items()}
    rows = compare(found, expected, "float32")
    assert len(rows) == len(expected) > 40
    assert [row for row in rows if not row.passed] == []


# --- MAX's kernels beside ours


def test_words_with_max_kernels(model: max_whisper.Model, max_artifact: Path) -> None:
    options = {"language": "en", "word_timestamps": True, "temperature": 0.0, "max_new_tokens": 40}
    other = max_whisper.load(max_artifact)
    for sound in SOUNDS.values():
        found, expected = (words_of(m.transcribe(sound(2 * WINDOW), **options)) for m in (other, model))
        assert found == expected != []


def words_of(result: max_whisper.TranscriptionResult) -> list[tuple[str, float, float]]:
    return [(word.word, word.start, word.end) for segment in result.segments for word in segment.words or []]


def test_batches_with_max_kernels_in_bfloat16(max_batched: max_whisper.Model) -> None:
    """Each row is what transformers computed, within the bounds of the dtype."""
    golden = read_golden("multilingual", 0)
    features = max_batched.encode(np.concatenate([golden[f"{sound} mel"][None] for sound in SOUNDS]).astype(np.float32))
    tokens = [np.concatenate([golden[f"{sound} prompt"], golden[f"{sound} tokens"]]) for sound in SOUNDS]
    logits = max_batched.logits(features, np.stack(tokens))
    for sound, row, scores in zip(SOUNDS, np.asarray(features), logits, strict=True):
        found = {"features": sample(row, OUTPUT_SAMPLE), "logits": sample(scores, OUTPUT_SAMPLE)}
        expected = {name: golden[f"{sound} {name}"] for name in found}
        assert [failed for failed in compare(found, expected, "bfloat16") if not failed.passed] == []


def test_a_batch_with_max_kernels_gives_the_texts_of_one_by_one(max_batched: max_whisper.Model) -> None:
    options = {"language": "en", "word_timestamps": True, "temperature": 0.0, "max_new_tokens": 20}
    sounds = [sound(2 * WINDOW) for sound in SOUNDS.values()]
    together = max_batched.transcribe_batch(sounds, **options)
    alone = [max_batched.transcribe(sound, **options) for sound in sounds]
    assert [result.segments for result in together] == [result.segments for result in alone]
