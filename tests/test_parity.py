"""Small models against what transformers computed for them (see make_golden.py): every layer, and what comes out."""

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
from make_golden import LAYER_SAMPLE, MODELS, OUTPUT_SAMPLE, SOUNDS, golden_file, sample, weights_hash
from max_whisper.artifact.load import SPEC
from max_whisper.spec import Spec
from max_whisper.tools.verify.verify import compare, layer_outputs
from small import write_weights

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Case:
    folder: Path
    model: max_whisper.Model
    golden: Arrays

    def mel(self, sound: str) -> npt.NDArray[np.float32]:
        return self.golden[f"{sound} mel"][None].astype(np.float32)

    def given(self, sound: str) -> npt.NDArray[np.int64]:
        """The prompt and the greedy tokens."""
        return np.concatenate([self.golden[f"{sound} prompt"], self.golden[f"{sound} tokens"]])[None]


@pytest.fixture(scope="module", params=MODELS, ids=lambda model: f"{model[0]}-{model[1]}")
def case(request: pytest.FixtureRequest, spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    family, seed = request.param
    with np.load(golden_file(family, seed)) as file:
        golden = dict(file)
    home = tmp_path_factory.mktemp("parity")
    checkpoint = write_weights(home / "checkpoint", family=family, seed=seed)
    if weights_hash(checkpoint) != golden["weights"]:
        pytest.fail("the weights are not those of the golden file: after a change of checkpoints.py, make it again")
    folder = max_whisper.build(spec, weights=checkpoint, out=home / "artifact")
    return Case(folder, max_whisper.load(folder), golden)


@pytest.fixture(scope="module")
def layers(case: Case) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
    """Sound -> path -> output of every layer, from graphs that are compiled to give them."""
    spec = Spec.from_canonical(json.loads((case.folder / SPEC).read_text()))
    windows = [(case.mel(sound), case.given(sound)) for sound in SOUNDS]
    outputs = layer_outputs(case.folder, case.model.manifest, spec, windows, lambda message: None)
    return dict(zip(SOUNDS, outputs, strict=True))


@pytest.mark.parametrize("sound", SOUNDS)
def test_features_and_logits(case: Case, sound: str) -> None:
    features = np.asarray(case.model.encode(case.mel(sound)))
    logits = case.model.logits(features, case.given(sound))
    expected = {name: case.golden[f"{sound} {name}"] for name in ("features", "logits")}
    found = {"features": sample(features, OUTPUT_SAMPLE), "logits": sample(logits, OUTPUT_SAMPLE)}
    assert [row for row in compare(found, expected, "float32") if not row.passed] == []


@pytest.mark.parametrize("sound", SOUNDS)
def test_greedy_tokens(case: Case, sound: str) -> None:
    expected = case.golden[f"{sound} tokens"].tolist()
    features = case.model.encode(case.mel(sound))
    options = {"language": "en", "without_timestamps": True, "max_new_tokens": len(expected)}
    assert case.model.decode(features, **options)[0].tokens == expected


@pytest.mark.parametrize("sound", SOUNDS)
def test_every_layer(case: Case, layers: Mapping[str, Arrays], sound: str) -> None:
    expected = dict(zip(case.golden["paths"].tolist(), case.golden[f"{sound} layers"], strict=True))
    found = {path: sample(output, LAYER_SAMPLE) for path, output in layers[sound].items()}
    rows = compare(found, expected, "float32")
    assert len(rows) == len(expected) > 40
    assert [row for row in rows if not row.passed] == []
