"""Evaluates models one after another, with a progress bar."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from max_whisper.cli.group import current
from max_whisper.cli.interrupts import Interrupted
from max_whisper.cli.models import load_model, prepare_detector
from max_whisper.cli.outputs import check_inputs_kept
from max_whisper.cli.progress import reporting
from max_whisper.errors import UserError
from max_whisper.files import expanded
from max_whisper.messages import printable
from max_whisper.runtime.transcription.part_options import PartOptions
from max_whisper.tools.options import EvalOptions

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from max_whisper.progress import OnProgress
    from max_whisper.tools.eval.outcomes import Run
    from max_whisper.tools.eval.report import Report


def evaluate_models(
    manifest: Path,
    names: Sequence[str],
    options: EvalOptions,
    transcription: Mapping[str, Any],
    outputs: Sequence[Path],
    offline: bool,
) -> Report:
    """Returns the report of models on the recordings of a manifest.

    All models are loaded before the first one begins, so that a mistake is found before hours of work.

    Args:
        manifest: The manifest.
        names: The folders or specs of the models.
        options: The options of the evaluation.
        transcription: The options of `Model.transcribe`, without a language.
        outputs: The files to which the report will be written.
        offline: Whether a build must not connect to the Hub.

    Raises:
        MaxWhisperError: The manifest or a model cannot be used, or a recording would be overwritten.
    """
    streams = current().streams
    with current().interrupts.held():  # a signal while MAX is imported would end the process by another one
        from max_whisper.tools.eval.evaluate import check_languages, check_options, evaluate, scorable
        from max_whisper.tools.eval.formatting import number
        from max_whisper.tools.eval.manifest import chosen, read_manifest
        from max_whisper.tools.eval.report import make_report

    listed = read_manifest(manifest)
    check_inputs_kept(outputs, [recording.path for recording in listed])
    recordings = chosen(listed, languages=options.languages, kinds=options.kinds)
    usable = scorable(recordings)
    if not usable:
        raise UserError(f"{manifest}: no recording that was asked for has a text, or the language zxx: add their texts")
    labels = _labels(names)
    models = [load_model(name, offline) for name in names]
    prepare_detector(PartOptions(**{name: transcription[name] for name in PartOptions.declared & transcription.keys()}))
    for name, model in zip(names, models, strict=True):
        check_options(model, transcription)
        check_languages(name, model, usable)
    runs: list[Run] = []
    started = time.monotonic()
    try:
        for name, label, model in zip(names, labels, models, strict=True):
            with _progress(label, len(usable)) as progress:
                runs.append(
                    evaluate(
                        name,
                        label,
                        model,
                        usable,
                        transcription,
                        detect_language=options.detect_language,
                        progress=progress,
                        failed=lambda failure: streams.say(f"error: {failure.reason}"),
                    )
                )
            done = f"transcribed {number(len(runs[-1].outcomes), 'recording')} with {label}"
            streams.say(f"[{time.monotonic() - started:6.1f} s] {done}")
    except Interrupted:
        streams.say(f"no report was made: {len(runs)} of {len(names)} models were done")
        raise
    settings = {**transcription, "detect_language": options.detect_language, "resamples": options.resamples}
    used = {recording.name for recording in usable}
    left_out = [recording for recording in recordings if recording.name not in used]
    with reporting("finding the intervals"):
        return make_report(str(manifest), settings, runs, left_out, resamples=options.resamples, worst=options.worst)


def _labels(names: Sequence[str]) -> list[str]:
    """Returns the last part of the name of each model, or all of the names where two have the same last part."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--model {name} was given {names.count(name)} times: give each model once")
    short = [printable(expanded(name).absolute().name) for name in names]
    return short if len({*short}) == len(short) else [*map(printable, names)]


@contextlib.contextmanager
def _progress(label: str, total: int) -> Iterator[OnProgress]:
    """Shows how many recordings are done, and yields the function that is called after each window."""
    with current().streams.progress(_columns) as bar:
        task = bar.add_task(label, total=total)
        yield lambda window: bar.update(task, completed=window.index + window.done / max(window.total, window.done, 1))


def _columns() -> Sequence[ProgressColumn]:
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total} recordings"),
        TimeElapsedColumn(),
    )
