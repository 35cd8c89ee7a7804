"""Compares an artifact for a GPU with one for a CPU: errors, tokens, times.

    python -m benchmarks.gpu figures CPU_ARTIFACT FIGURES.npz RECORDING…    on any machine
    python -m benchmarks.gpu check ARTIFACT… FIGURES.npz                    on the machine with the GPU

`figures` keeps the waveforms and everything that the CPU's artifact computes from them. `check` loads an artifact of
the same weights, computes the same, and prints how far the results differ; it needs neither FFmpeg nor a compiler. A
check that fails does not stop the others. The exit status is 1 where one failed; errors and tokens that differ are for
the reader to judge.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import numpy as np
from max_whisper import Model, load, load_audio
from numpy.typing import NDArray

from benchmarks.common import common_prefix, help_text

THREADS = 4
ROUNDS = 20
INDEPENDENT = {"condition_on_previous_text": False, "temperature": 0.0}
"""With these options, a token that differs in one window changes no other window."""
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"without_timestamps": True},
    "timestamps": {},
    "sampled": {"temperature": 0.7, "seed": 3, "best_of": 2},
    "beams": {"beam_size": 4},
    "suppressed": {"suppress_tokens": "", "suppress_blank": False},
}
TRANSCRIPTIONS: dict[str, dict[str, Any]] = {
    "transcribe": {},
    "independent windows": INDEPENDENT,
    "words": {**INDEPENDENT, "word_timestamps": True},
}


def language_of(model: Model) -> dict[str, str]:
    """Returns the option that names English, which an English-only model does not take."""
    return {"language": "en"} if model.multilingual else {}


def first_windows(model: Model, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Returns the first window of each recording, float32 [recordings, n_mels, n_frames]."""
    return np.stack([model.windows(waveform)[0] for waveform in waveforms])


def decoded(model: Model, features: Any, options: dict[str, Any]) -> list[list[int]]:
    """Returns the tokens of each window. A beam search takes one window at a time."""
    return [result.tokens for result in model.decode(features, **language_of(model), **options)]


def transcribed(model: Model, waveform: NDArray[np.float32], options: dict[str, Any]) -> dict[str, Any]:
    """Returns the text and tokens of a recording, and the times of its words, or else of its segments."""
    result = model.transcribe(waveform, **language_of(model), **options)
    timed = [word for segment in result.segments for word in segment.words or [segment]]
    return {
        "tokens": [token for segment in result.segments for token in segment.tokens],
        "times": [[item.start, item.end] for item in timed],
        "text": result.text,
    }


@click.group(help=help_text(__doc__))
def main() -> None:
    pass


@main.command()
@click.argument("artifact", type=click.Path(exists=True, file_okay=False))
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
def figures(artifact: str, out: Path, recordings: tuple[str, ...]) -> None:
    """Write what ARTIFACT makes of RECORDINGS to OUT."""
    model = load(artifact)
    waveforms = [load_audio(recording) for recording in recordings]
    features = model.encode(first_windows(model, waveforms))
    texts = {name: decoded(model, features, options) for name, options in DECODINGS.items()}
    transcriptions = {
        name: [transcribed(model, waveform, options) for waveform in waveforms]
        for name, options in TRANSCRIPTIONS.items()
    }
    arrays = {f"waveform.{i}": waveform for i, waveform in enumerate(waveforms)}
    for i, tokens in enumerate(texts["greedy"]):
        row = [*model.prompt(**language_of(model), without_timestamps=True), *tokens]
        arrays[f"fixed.{i}"] = np.array([row])
        arrays[f"logits.{i}"] = model.logits(np.asarray(features)[i : i + 1], [row])
    results = json.dumps({"texts": texts, "transcriptions": transcriptions})
    np.savez_compressed(out, features=np.asarray(features), results=np.array(results), **arrays)
    print(f"{out}: {len(waveforms)} recordings, {out.stat().st_size / 1e6:.1f} MB")


@main.command()
@click.argument("artifacts", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@click.argument("expected", type=click.Path(exists=True, dir_okay=False))
@click.option("--only", multiple=True, help="Make these checks alone, such as features.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all findings here, too.")
def check(artifacts: tuple[str, ...], expected: str, only: tuple[str, ...], file: Path | None) -> None:
    """Compare ARTIFACTS with the figures in EXPECTED, and time them."""
    reports = [Check(folder, Path(expected)).run(only) for folder in artifacts]
    if file is not None:
        file.write_text(json.dumps(dict(zip(artifacts, reports, strict=True)), indent=1))
    sys.exit(1 if any("failed" in finding for report in reports for finding in report.values()) else 0)


class Check:
    """Compares one artifact with the figures, and times it."""

    def __init__(self, folder: str, expected: Path) -> None:
        self.folder = folder
        arrays = np.load(expected)
        results = json.loads(str(arrays["results"]))
        self.texts: dict[str, list[list[int]]] = results["texts"]
        self.transcriptions: dict[str, list[dict[str, Any]]] = results["transcriptions"]
        self.features = arrays["features"]
        count = range(len(self.features))
        self.waveforms = [arrays[f"waveform.{i}"] for i in count]
        self.fixed = [arrays[f"fixed.{i}"] for i in count]
        self.logits = [arrays[f"logits.{i}"] for i in count]
        self.model: Model

    def run(self, only: Sequence[str] = ()) -> dict[str, Any]:
        """Makes every check, or those named in `only`, prints a line for each, and returns the findings."""
        print(f"\n{self.folder}", flush=True)
        findings: dict[str, Any] = {}
        for name, make in self.checks():
            if only and name not in ("load", *only):
                continue
            started = perf_counter()
            try:
                findings[name] = make()
            except Exception as error:
                traceback.print_exc()
                findings[name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
                if not hasattr(self, "model"):
                    break
            line = ", ".join(f"{key} {shown(value)}" for key, value in findings[name].items())
            print(f"  {name:22} {line}  [{perf_counter() - started:.1f} s]", flush=True)
        return findings

    def checks(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        yield "load", self.load
        yield "features", self.check_features
        yield "logits", self.check_logits
        for name, options in DECODINGS.items():
            yield f"decode: {name}", lambda name=name, options=options: self.check_decoding(name, options)
        for name, options in TRANSCRIPTIONS.items():
            yield name, lambda name=name, options=options: self.check_transcription(name, options)
        yield "batch", self.check_batch
        yield "twice the same", self.check_repeated
        yield "times", self.times
        yield f"{THREADS} threads", self.check_threads

    def load(self) -> dict[str, Any]:
        self.model = load(self.folder)
        plan = self.model.manifest.plan
        return {"target": str(plan.target), "dtype": plan.dtype, "batch": plan.batch}

    @property
    def mel(self) -> NDArray[np.float32]:
        return first_windows(self.model, self.waveforms)

    def check_features(self) -> dict[str, Any]:
        return distance(np.asarray(self.model.encode(self.mel)), self.features)

    def check_logits(self) -> dict[str, Any]:
        """Compares the decoder alone: with the features of the CPU, and the tokens of the figures."""
        actual = [self.model.logits(self.features[i : i + 1], fixed)[0] for i, fixed in enumerate(self.fixed)]
        expected = [logits[0] for logits in self.logits]
        same = np.concatenate([a.argmax(-1) == e.argmax(-1) for a, e in zip(actual, expected, strict=True)])
        largest = max((distance(a, e) for a, e in zip(actual, expected, strict=True)), key=lambda d: d["largest"])
        return {**largest, "argmax": f"{same.sum()} of {same.size}"}

    def check_decoding(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        features = self.model.encode(self.mel)
        return agreement(decoded(self.model, features, options), self.texts[name])

    def check_transcription(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        actual = [transcribed(self.model, waveform, options) for waveform in self.waveforms]
        expected = self.transcriptions[name]
        far = [
            float(np.abs(np.subtract(a["times"], e["times"])).max(initial=0))
            for a, e in zip(actual, expected, strict=True)
            if len(a["times"]) == len(e["times"])
        ]
        times = f"{len(far)} of {len(actual)} as many, {max(far, default=0):.2f} s apart at most"
        return {**agreement([a["tokens"] for a in actual], [e["tokens"] for e in expected]), "times": times}

    def check_batch(self) -> dict[str, Any]:
        results = self.model.transcribe_batch(self.waveforms, **language_of(self.model), **INDEPENDENT)
        actual = [[token for segment in result.segments for token in segment.tokens] for result in results]
        return agreement(actual, [result["tokens"] for result in self.transcriptions["independent windows"]])

    def check_threads(self) -> dict[str, Any]:
        """Compares what several threads transcribe at once, with one model, with what one thread did before."""
        jobs = [*range(len(self.waveforms))] * THREADS

        def job(i: int) -> list[int]:
            tokens: list[int] = transcribed(self.model, self.waveforms[i], INDEPENDENT)["tokens"]
            return tokens

        started = perf_counter()
        alone = [job(i) for i in jobs]
        seconds = perf_counter() - started
        started = perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            actual = list(pool.map(job, jobs))
        together = perf_counter() - started
        return {**agreement(actual, alone), "s": round(together, 2), "s one after the other": round(seconds, 2)}

    def check_repeated(self) -> dict[str, Any]:
        """Counts how often the same window, ten times, gives other bits."""
        first, logits = np.asarray(self.model.encode(self.mel[:1])), None
        differ = [0, 0]
        for _ in range(10):
            differ[0] += not np.array_equal(np.asarray(self.model.encode(self.mel[:1])), first)
            again = self.model.logits(self.features[:1], self.fixed[0])
            differ[1] += logits is not None and not np.array_equal(again, logits)
            logits = again
        return {"features differ": differ[0], "logits differ": differ[1]}

    def times(self) -> dict[str, Any]:
        """Returns median milliseconds: a window's log-mel, its encoding with the copy of its features, and a token."""
        model, waveform = self.model, self.waveforms[0]
        mel = model.windows(waveform)[:1]
        features = model.encode(mel)
        never = {"suppress_tokens": [model.manifest.tokens.eot], **language_of(model)}
        most = min(100, model.manifest.dims["n_text_ctx"] // 2)

        def decoding(count: int, **options: Any) -> Callable[[], Any]:
            return lambda: model.decode(features, max_new_tokens=count, **never, **options)

        times = {"log-mel": timed(lambda: model.windows(waveform)), "encode": timed(lambda: model.encode(mel))}
        for name, options in (
            ("greedy", {"without_timestamps": True}),
            ("timestamps", {}),
            ("sampled", {"temperature": 0.5}),
        ):
            first, all_ = timed(decoding(1, **options)), timed(decoding(most, **options))
            times |= {f"first token, {name}": first, f"token, {name}": (all_ - first) / (most - 1)}
        return {name: round(value, 3) for name, value in times.items()}


def timed(work: Callable[[], Any]) -> float:
    """Returns the median milliseconds of ROUNDS calls, after two that do not count."""
    times = []
    for _ in range(ROUNDS + 2):
        started = perf_counter()
        work()
        times.append(1000 * (perf_counter() - started))
    return median(times[2:])


def distance(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, float]:
    """Returns the largest and the relative distance: ‖actual − expected‖ / ‖expected‖."""
    apart = actual.astype(np.float64) - expected
    return {
        "largest": float(np.abs(apart).max()),
        "relative": float(np.linalg.norm(apart) / np.linalg.norm(expected.astype(np.float64))),
    }


def agreement(actual: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> dict[str, str]:
    """Returns how many texts are the same, and how many of all tokens are before the first that differs."""
    same = sum(list(a) == list(e) for a, e in zip(actual, expected, strict=True))
    before = sum(map(common_prefix, actual, expected))
    return {"same": f"{same} of {len(expected)}", "tokens": f"{before} of {sum(map(len, expected))}"}


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
