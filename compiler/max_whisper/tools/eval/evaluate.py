"""Transcribes the recordings of a manifest with one model, and scores what it recognizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from max_whisper.errors import MaxWhisperError, UserError
from max_whisper.progress import OnProgress, ignore_progress
from max_whisper.runtime.model import Model
from max_whisper.tools.eval.manifest import NO_SPEECH, Recording
from max_whisper.tools.eval.outcomes import Failure, Outcome, Run
from max_whisper.tools.eval.scoring import normalized, score_texts

OnFailure = Callable[[Failure], None]


def scorable(recordings: Sequence[Recording]) -> list[Recording]:
    """Returns the recordings of which it is known what is said, or that nobody speaks.

    A text of which normalizing leaves nothing, such as "(laughter)", says neither.

    Raises:
        UserError: whisper-normalizer is missing.
    """
    return [one for one in recordings if one.language == NO_SPEECH or normalized(one.text, one.language)]


def check_options(model: Model, options: Mapping[str, Any]) -> None:
    """Raises UserError where a model does not support one of the options."""
    model.batch([], **options)


def check_languages(name: str, model: Model, recordings: Sequence[Recording]) -> None:
    """Raises UserError where a model, called `name`, knows the language of none of the recordings."""
    if not any(_knows(model, recording) for recording in recordings):
        languages = ", ".join(sorted({recording.language for recording in recordings}))
        raise UserError(
            f"--model {name} knows none of the languages of the recordings ({languages}): give a multilingual model, "
            "or recordings in its language"
        )


def _knows(model: Model, recording: Recording) -> bool:
    """Returns whether a model can transcribe the language of a recording, or nobody speaks in it."""
    return recording.language in (NO_SPEECH, *(model.manifest.tokens.languages or ("en",)))


def evaluate(
    name: str,
    label: str,
    model: Model,
    recordings: Sequence[Recording],
    options: Mapping[str, Any],
    *,
    detect_language: bool = False,
    progress: OnProgress = ignore_progress,
    failed: OnFailure = lambda failure: None,
) -> Run:
    """Returns what a model does with recordings, of which it takes one at a time.

    Args:
        name: The folder or spec of the model.
        label: Its name in the report.
        model: The model.
        recordings: The recordings, those in other languages than the model's among them, which are skipped.
        options: The options of `Model.transcribe`, without a language.
        detect_language: Whether the model detects the language of each recording, and is not told.
        progress: Called after each window with the seconds of its recording that are done, and its index.
        failed: Called for each recording that cannot be transcribed.

    Raises:
        UserError: The model does not support an option, or jiwer or whisper-normalizer are missing.
    """
    outcomes, failures, skipped = [], [], []
    for index, recording in enumerate(recordings):
        if not _knows(model, recording):
            skipped.append(recording)
            continue
        told = None if detect_language or recording.language == NO_SPEECH else recording.language
        result = _transcribe(model, recording, index, {**options, "language": told}, progress)
        if isinstance(result, Outcome):
            outcomes.append(result)
        else:
            failures.append(result)
            failed(result)
    plan = model.manifest.plan
    return Run(label, name, plan.spec.name, plan.dtype, tuple(outcomes), tuple(failures), tuple(skipped))


def _transcribe(
    model: Model, recording: Recording, index: int, options: Mapping[str, Any], progress: OnProgress
) -> Outcome | Failure:
    """Returns what is recognized in a recording; the time includes the decoding of its file."""
    started = time.perf_counter()
    try:
        transcriber = model.transcriber(recording.path, **options)
        for window in transcriber:
            progress(transcriber.progress(window, index))
        result = transcriber.result()
    except MaxWhisperError as error:
        return Failure(recording, str(error))
    wall_seconds = time.perf_counter() - started
    (score,) = score_texts([recording.text], [result.text], recording.language)
    return Outcome(recording, result.text, result.language, transcriber.seconds, wall_seconds, score)
