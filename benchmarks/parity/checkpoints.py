"""Compares max-whisper with transformers' WhisperForConditionalGeneration, in float32, on whole checkpoints.

    python -m benchmarks.parity.checkpoints inputs    WORK AUDIO…              # where max-whisper is installed
    python -m benchmarks.parity.checkpoints reference WORK CHECKPOINT…         # where torch and transformers are
    python -m benchmarks.parity.checkpoints compare   WORK SPEC=CHECKPOINT…    # where max-whisper is

The two sides need not share an environment: they meet in the folder WORK. A CHECKPOINT is a local folder in Hub
layout, random or trained; SPEC is the spec it is built by. Both sides get the same log-mel of the first 30 s of each
recording, of silence and of noise. Compared are the encoder's features, the logits of 200 fixed tokens, and 200 greedy
tokens; the decoder starts from each side's own features. The exit status is 1 if an error is out of bounds or a token
differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import WINDOW, common_prefix

if TYPE_CHECKING:
    import torch

N_TOKENS = 200
MAX_FEATURES_ERROR = 2e-4
MAX_LOGITS_ERROR = 1e-3
MELS = (80, 128)

Arrays = dict[str, NDArray[Any]]


# --- inputs


def write_inputs(work: Path, recordings: Sequence[Path]) -> None:
    """Writes WORK/inputs/NAME.npz with 30 s of sound and its log-mel, for each recording, for silence and for noise."""
    from max_whisper import load_audio
    from max_whisper.runtime.audio.mel import log_mel

    waveforms = {path.stem: load_audio(path)[:WINDOW] for path in recordings}
    waveforms["silence"] = np.zeros(WINDOW, np.float32)
    waveforms["noise"] = np.random.default_rng(0).normal(0, 0.1, WINDOW).astype(np.float32)
    (work / "inputs").mkdir(parents=True, exist_ok=True)
    for name, waveform in waveforms.items():
        mels = {f"mel{n_mels}": log_mel(waveform, n_mels, padding=WINDOW - len(waveform)) for n_mels in MELS}
        np.savez(work / "inputs" / f"{name}.npz", waveform=waveform, **mels)
        print(f"{name}: {len(waveform) / 16000:.1f} s")


def read_inputs(work: Path) -> dict[str, Arrays]:
    files = sorted((work / "inputs").glob("*.npz"))
    if not files:
        sys.exit(f"{work}: no inputs; run `python -m benchmarks.parity.checkpoints inputs {work} AUDIO…` first")
    return {file.stem: read_arrays(file) for file in files}


def read_arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return dict(file)


# --- reference


@dataclass(frozen=True)
class Rules:
    """The rules of greedy English transcription without timestamps, from a checkpoint's generation_config.json."""

    prompt: list[int]
    suppress: list[int]
    begin_suppress: list[int]  # additionally, at the first token
    eot: int

    @classmethod
    def read(cls, checkpoint: Path) -> Rules:
        config = json.loads((checkpoint / "generation_config.json").read_text())
        prompt = [config["decoder_start_token_id"]]
        if config["is_multilingual"]:
            prompt += [config["lang_to_id"]["<|en|>"], config["task_to_id"]["transcribe"]]
        prompt += [config["no_timestamps_token_id"]]
        return cls(prompt, config["suppress_tokens"], config["begin_suppress_tokens"], config["eos_token_id"])


def write_reference(work: Path, checkpoints: Sequence[Path]) -> None:
    """Writes WORK/reference/CHECKPOINT/INPUT.npz with what transformers computes for each input."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    inputs = read_inputs(work)
    for checkpoint in checkpoints:
        model = WhisperForConditionalGeneration.from_pretrained(checkpoint).float().eval()
        extractor = WhisperFeatureExtractor.from_pretrained(checkpoint)
        rules = Rules.read(checkpoint)
        folder = work / "reference" / checkpoint.name
        folder.mkdir(parents=True, exist_ok=True)
        for i, (name, arrays) in enumerate(inputs.items()):
            mel = torch.from_numpy(arrays[f"mel{model.config.num_mel_bins}"])[None]
            rng = np.random.default_rng(i)
            fixed = rules.prompt + rng.integers(0, rules.eot, N_TOKENS - len(rules.prompt)).tolist()
            with torch.no_grad():
                features = model.model.encoder(mel).last_hidden_state
                logits = model(encoder_outputs=(features,), decoder_input_ids=torch.tensor([fixed])).logits
                tokens, margins = greedy(model, features, rules)
                if i == 0:
                    check_greedy(model, mel, rules, tokens)
            np.savez(
                folder / f"{name}.npz",
                features=features[0].numpy(),
                fixed=np.array(fixed),
                logits=logits[0].numpy(),
                tokens=np.array(tokens),
                margins=np.array(margins),
                mel=extractor(arrays["waveform"], sampling_rate=16000, return_tensors="np").input_features[0],
            )
            print(f"{checkpoint.name} {name}: {len(tokens)} tokens, {len(set(tokens))} different", flush=True)


def greedy(model: Any, features: torch.Tensor, rules: Rules) -> tuple[list[int], list[float]]:
    """Returns the tokens before end-of-text, at most `N_TOKENS`, and by how much each beat the second best."""
    import torch

    tokens: list[int] = []
    margins: list[float] = []
    cache, following = None, rules.prompt
    while len(tokens) < N_TOKENS:
        step = model(
            encoder_outputs=(features,),
            decoder_input_ids=torch.tensor([following]),
            past_key_values=cache,
            use_cache=True,
        )
        scores = step.logits[0, -1].clone()
        scores[rules.suppress] = -torch.inf
        if not tokens:
            scores[rules.begin_suppress] = -torch.inf
        best, second = scores.topk(2).values.tolist()
        token = int(scores.argmax())
        if token == rules.eot:
            break
        tokens.append(token)
        margins.append(best - second)
        cache, following = step.past_key_values, [token]
    return tokens, margins


def check_greedy(model: Any, mel: torch.Tensor, rules: Rules, tokens: list[int]) -> None:
    """Exits unless transformers' own `generate` gives these tokens."""
    spoken = {"language": "en", "task": "transcribe"} if len(rules.prompt) > 2 else {}
    generated = model.generate(
        mel, return_timestamps=False, do_sample=False, num_beams=1, max_new_tokens=N_TOKENS, **spoken
    )[0].tolist()
    if generated[: len(rules.prompt)] == rules.prompt:  # versions differ in whether they return the prompt
        generated = generated[len(rules.prompt) :]
    if [token for token in generated if token != rules.eot] != tokens:
        sys.exit(f"generate() and the loop of this script differ:\n{generated}\n{tokens}")


# --- comparison


@dataclass(frozen=True)
class Result:
    """The errors of one checkpoint on one input: the largest absolute differences."""

    spec: str
    checkpoint: str
    input: str
    features: float
    logits: float
    n_tokens: int
    differs_at: int | None  # the index of the first greedy token that differs
    margin: float | None  # by how much that token was the best for the reference
    mel: float  # our log-mel against that of transformers' feature extractor
    through_mel: float  # our features of their log-mel against their features of ours

    @property
    def good(self) -> bool:
        within = self.features <= MAX_FEATURES_ERROR and self.logits <= MAX_LOGITS_ERROR
        return within and self.differs_at is None and self.n_tokens > 0


def compare(work: Path, spec: str, checkpoint: Path, inputs: dict[str, Arrays]) -> Iterator[Result]:
    """Builds the checkpoint and yields the errors for each input."""
    import max_whisper

    rules = Rules.read(checkpoint)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        max_whisper.build(spec, weights=checkpoint, dtype="float32", out=Path(folder) / "artifact")
        model = max_whisper.load(Path(folder) / "artifact")
        for name, arrays in inputs.items():
            expected = read_arrays(work / "reference" / checkpoint.name / f"{name}.npz")
            mel = arrays[f"mel{model.manifest.dims['n_mels']}"]
            features = model.encode(mel[None])
            through_mel = np.asarray(model.encode(expected["mel"][None]))[0]
            tokens = model.decode(features, language="en", without_timestamps=True, max_new_tokens=N_TOKENS)[0].tokens
            if model.prompt(language="en", without_timestamps=True) != rules.prompt:
                sys.exit(f"{checkpoint}: the two sides start from other prompts")
            prefix = common_prefix(tokens, expected["tokens"].tolist())
            at = None if prefix == max(len(tokens), len(expected["tokens"])) else prefix
            margins = expected["margins"]
            yield Result(
                spec=Path(spec).stem if spec.endswith(".yaml") else spec,
                checkpoint=checkpoint.name,
                input=name,
                features=error(np.asarray(features)[0], expected["features"]),
                logits=error(model.logits(features, expected["fixed"][None])[0], expected["logits"]),
                n_tokens=len(tokens),
                differs_at=at,
                margin=float(margins[at]) if at is not None and at < len(margins) else None,
                mel=error(mel, expected["mel"]),
                through_mel=error(through_mel, expected["features"]),
            )


def error(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """Returns the largest absolute difference: infinity where shapes differ or a side is not finite."""
    if actual.shape != expected.shape or not np.isfinite(actual).all() or not np.isfinite(expected).all():
        return float("inf")
    return float(np.abs(actual.astype(np.float64) - expected).max())


def report(results: Sequence[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("spec", "checkpoint", "input", "features", "logits", "tokens", "mel", "features through mel")
    for result in results:
        table.add_row(
            result.spec,
            result.checkpoint,
            result.input,
            marked(result.features, MAX_FEATURES_ERROR),
            marked(result.logits, MAX_LOGITS_ERROR),
            tokens_cell(result),
            f"{result.mel:.1e}",
            f"{result.through_mel:.1e}",
        )
    table.add_section()
    for spec in dict.fromkeys(result.spec for result in results):
        rows = [result for result in results if result.spec == spec]
        table.add_row(
            spec,
            f"largest of {len(rows)}",
            "",
            marked(max(result.features for result in rows), MAX_FEATURES_ERROR),
            marked(max(result.logits for result in rows), MAX_LOGITS_ERROR),
            f"{sum(result.differs_at is None for result in rows)} of {len(rows)} equal",
            f"{max(result.mel for result in rows):.1e}",
            f"{max(result.through_mel for result in rows):.1e}",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def marked(value: float, bound: float) -> str:
    return f"{value:.1e}" if value <= bound else f"[red]{value:.1e} > {bound:.0e}[/]"


def tokens_cell(result: Result) -> str:
    if result.differs_at is None:
        return f"{result.n_tokens} equal"
    margin = "" if result.margin is None else f", margin {result.margin:.1e}"
    return f"[red]differ at {result.differs_at}{margin}[/]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, metavar in (("inputs", "AUDIO"), ("reference", "CHECKPOINT"), ("compare", "SPEC=CHECKPOINT")):
        command = commands.add_parser(name)
        command.add_argument("work", metavar="WORK", type=Path)
        command.add_argument("items", metavar=metavar, nargs="+")
    options = parser.parse_args()
    if options.command == "inputs":
        write_inputs(options.work, [Path(item) for item in options.items])
    elif options.command == "reference":
        write_reference(options.work, [Path(item) for item in options.items])
    else:
        inputs = read_inputs(options.work)
        results = []
        for item in options.items:
            spec, _, checkpoint = item.partition("=")
            for result in compare(options.work, spec, Path(checkpoint), inputs):
                print(f"{result.checkpoint} {result.input}: {'as expected' if result.good else 'FAILED'}", flush=True)
                results.append(result)
        report(results)
        sys.exit(not all(result.good for result in results))


if __name__ == "__main__":
    main()
