"""An artifact for a GPU beside what one for a CPU gives: errors, tokens, times.

\b
    python gpu.py figures CPU_ARTIFACT FIGURES.npz RECORDING…     on any machine: what is expected
    python gpu.py check ARTIFACT… FIGURES.npz                     where the GPU is: needs no FFmpeg, and no compiler

`figures` keeps the waveforms and everything that the CPU's artifact makes of them. `check` loads an artifact of the
same weights, makes the same, and says how far it is away. One check that fails does not keep the others from being
made. The exit status is 1 where one failed; errors and tokens that differ are for the reader to judge.
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

THREADS = 4
ROUNDS = 20
EACH_FOR_ITSELF = {"condition_on_previous_text": False, "temperature": 0.0}
"""With these, a token that differs in one window changes no other."""
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"without_timestamps": True},
    "timestamps": {},
    "sampled": {"temperature": 0.7, "seed": 3, "best_of": 2},
    "beams": {"beam_size": 4},
    "suppressed": {"suppress_tokens": "", "suppress_blank": False},
}
TRANSCRIPTIONS: dict[str, dict[str, Any]] = {
    "transcribe": {},
    "each for itself": EACH_FOR_ITSELF,
    "words": {**EACH_FOR_ITSELF, "word_timestamps": True},
}


def languages(model: Model) -> dict[str, str]:
    return {"language": "en"} if model.multilingual else {}


def first_windows(model: Model, waveforms: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Returns the first window of each recording, float32 [recordings, n_mels, n_frames]."""
    return np.stack([model.windows(waveform)[0] for waveform in waveforms])


def decoded(model: Model, features: Any, options: dict[str, Any]) -> list[list[int]]:
    """Returns the tokens of each window. A beam search takes one window at a time."""
    return [result.tokens for result in model.decode(features, **languages(model), **options)]


def transcribed(model: Model, waveform: NDArray[np.float32], options: dict[str, Any]) -> dict[str, Any]:
    """Returns the tokens and the times of a whole recording: of its words, or else of its segments."""
    result = model.transcribe(waveform, **languages(model), **options)
    timed = [word for segment in result.segments for word in segment.words or [segment]]
    return {
        "tokens": [token for segment in result.segments for token in segment.tokens],
        "times": [[item.start, item.end] for item in timed],
        "text": result.text,
    }


@click.group(help=__doc__)
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
    wholes = {name: [transcribed(model, w, options) for w in waveforms] for name, options in TRANSCRIPTIONS.items()}
    arrays = {f"waveform.{i}": waveform for i, waveform in enumerate(waveforms)}
    for i, tokens in enumerate(texts["greedy"]):
        row = [*model.prompt(**languages(model), without_timestamps=True), *tokens]
        arrays[f"given.{i}"] = np.array([row])
        arrays[f"logits.{i}"] = model.logits(np.asarray(features)[i : i + 1], [row])
    told = json.dumps({"texts": texts, "wholes": wholes})
    np.savez_compressed(out, features=np.asarray(features), told=np.array(told), **arrays)
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
    """One artifact beside the figures."""

    def __init__(self, folder: str, expected: Path) -> None:
        self.folder = folder
        arrays = np.load(expected)
        told = json.loads(str(arrays["told"]))
        self.texts: dict[str, list[list[int]]] = told["texts"]
        self.wholes: dict[str, list[dict[str, Any]]] = told["wholes"]
        self.features = arrays["features"]
        count = range(len(self.features))
        self.waveforms = [arrays[f"waveform.{i}"] for i in count]
        self.given = [arrays[f"given.{i}"] for i in count]
        self.logits = [arrays[f"logits.{i}"] for i in count]
        self.model: Model

    def run(self, only: Sequence[str] = ()) -> dict[str, Any]:
        """Makes every check, or some, prints a line for each, and returns what was found."""
        print(f"\n{self.folder}", flush=True)
        found: dict[str, Any] = {}
        for name, make in self.checks():
            if only and name not in ("load", *only):
                continue
            started = perf_counter()
            try:
                found[name] = make()
            except Exception as error:
                traceback.print_exc()
                found[name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
                if not hasattr(self, "model"):
                    break
            line = ", ".join(f"{key} {shown(value)}" for key, value in found[name].items())
            print(f"  {name:22} {line}  [{perf_counter() - started:.1f} s]", flush=True)
        return found

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
        """With the features of the CPU, and tokens that are given: the decoder alone."""
        found = [self.model.logits(self.features[i : i + 1], given)[0] for i, given in enumerate(self.given)]
        expected = [logits[0] for logits in self.logits]
        same = np.concatenate([f.argmax(-1) == e.argmax(-1) for f, e in zip(found, expected, strict=True)])
        largest = max((distance(f, e) for f, e in zip(found, expected, strict=True)), key=lambda d: d["largest"])
        return {**largest, "argmax": f"{same.sum()} of {same.size}"}

    def check_decoding(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        features = self.model.encode(self.mel)
        return agreement(decoded(self.model, features, options), self.texts[name])

    def check_transcription(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        found = [transcribed(self.model, waveform, options) for waveform in self.waveforms]
        expected = self.wholes[name]
        far = [
            float(np.abs(np.subtract(f["times"], e["times"])).max(initial=0))
            for f, e in zip(found, expected, strict=True)
            if len(f["times"]) == len(e["times"])
        ]
        times = f"{len(far)} of {len(found)} as many, {max(far, default=0):.2f} s apart at most"
        return {**agreement([f["tokens"] for f in found], [e["tokens"] for e in expected]), "times": times}

    def check_batch(self) -> dict[str, Any]:
        results = self.model.transcribe_batch(self.waveforms, **languages(self.model), **EACH_FOR_ITSELF)
        found = [[token for segment in result.segments for token in segment.tokens] for result in results]
        return agreement(found, [whole["tokens"] for whole in self.wholes["each for itself"]])

    def check_threads(self) -> dict[str, Any]:
        """Several threads transcribe with one model what one of them did before: all must get the same."""
        jobs = [*range(len(self.waveforms))] * THREADS

        def job(i: int) -> list[int]:
            tokens: list[int] = transcribed(self.model, self.waveforms[i], EACH_FOR_ITSELF)["tokens"]
            return tokens

        started = perf_counter()
        alone = [job(i) for i in jobs]
        seconds = perf_counter() - started
        started = perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(job, jobs))
        together = perf_counter() - started
        return {**agreement(found, alone), "s": round(together, 2), "s one after the other": round(seconds, 2)}

    def check_repeated(self) -> dict[str, Any]:
        """The same window ten times: are the bits the same?"""
        first, logits = np.asarray(self.model.encode(self.mel[:1])), None
        differ = [0, 0]
        for _ in range(10):
            differ[0] += not np.array_equal(np.asarray(self.model.encode(self.mel[:1])), first)
            again = self.model.logits(self.features[:1], self.given[0])
            differ[1] += logits is not None and not np.array_equal(again, logits)
            logits = again
        return {"features differ": differ[0], "logits differ": differ[1]}

    def times(self) -> dict[str, Any]:
        """Medians in milliseconds: a window's log-mel, its encoding with the copy of its features, and a token."""
        model, waveform = self.model, self.waveforms[0]
        mel = model.windows(waveform)[:1]
        features = model.encode(mel)
        never = {"suppress_tokens": [model.manifest.tokens.eot], **languages(model)}
        most = min(100, model.manifest.dims["n_text_ctx"] // 2)

        def decoding(count: int, **options: Any) -> Callable[[], Any]:
            return lambda: model.decode(features, max_new_tokens=count, **never, **options)

        found = {"log-mel": timed(lambda: model.windows(waveform)), "encode": timed(lambda: model.encode(mel))}
        for name, options in (
            ("greedy", {"without_timestamps": True}),
            ("timestamps", {}),
            ("sampled", {"temperature": 0.5}),
        ):
            first, all_ = timed(decoding(1, **options)), timed(decoding(most, **options))
            found |= {f"first token, {name}": first, f"token, {name}": (all_ - first) / (most - 1)}
        return {name: round(value, 3) for name, value in found.items()}


def timed(work: Callable[[], Any]) -> float:
    """Returns the median milliseconds of some calls, after two that do not count."""
    times = []
    for _ in range(ROUNDS + 2):
        started = perf_counter()
        work()
        times.append(1000 * (perf_counter() - started))
    return median(times[2:])


def distance(found: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, float]:
    """Returns the largest and the relative distance: ‖found − expected‖ / ‖expected‖."""
    apart = found.astype(np.float64) - expected
    return {
        "largest": float(np.abs(apart).max()),
        "relative": float(np.linalg.norm(apart) / np.linalg.norm(expected.astype(np.float64))),
    }


def agreement(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> dict[str, str]:
    """Returns how many texts are the same, and how many of all tokens are before the first that differs."""
    same = sum(list(f) == list(e) for f, e in zip(found, expected, strict=True))
    before = 0
    for f, e in zip(found, expected, strict=True):
        parts = (i for i, (a, b) in enumerate(zip(f, e, strict=False)) if a != b)
        before += next(parts, min(len(f), len(e)))
    return {"same": f"{same} of {len(expected)}", "tokens": f"{before} of {sum(map(len, expected))}"}


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
