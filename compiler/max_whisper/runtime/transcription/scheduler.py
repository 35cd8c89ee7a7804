"""One recording, or several at once whose windows share the work of an artifact that computes a batch.

A transcription is a generator that asks the model questions: the features of a window, the text of a window. Alone,
each is answered as it comes; together, those that are alike are answered at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from max_whisper.runtime.decoding.options import DecodingOptions

if TYPE_CHECKING:
    from max_whisper.runtime.model import Features, Model

WindowFeatures: TypeAlias = "Features | NDArray[np.float32]"  # of one window, [1, n_audio_ctx, d_model]


@dataclass(frozen=True)
class Encode:
    """What are the features of a window, float32 [1, n_mels, n_frames]? Answered by WindowFeatures."""

    mel: NDArray[np.float32]


@dataclass(frozen=True)
class Decode:
    """What is the text of one window? Answered by a DecodingResult."""

    features: WindowFeatures
    options: DecodingOptions


Question: TypeAlias = Encode | Decode
Done = TypeVar("Done")
Steps: TypeAlias = Generator["Question | Done", Any, Any]  # questions, and in between what is done


def alone(model: Model, steps: Steps[Done]) -> Iterator[Done]:
    """What is done of one."""
    answer: Any = None
    while (step := _next(steps, answer)) is not None:
        answer = None
        if isinstance(step, Encode):
            answer = model.encode(step.mel)
        elif isinstance(step, Decode):
            (answer,) = model.decode_with(step.features, [step.options])
        else:
            yield step


def together(model: Model, several: Sequence[Steps[Done]]) -> Iterator[tuple[int, Done | None]]:
    """What is done of several, as it comes, with the number of its generator; None when that ends.

    As many as the artifact has rows are on their way at once. Each gets the answers that it would get alone: the rows
    of a batch know nothing of each other, and nothing is asked differently.
    """
    waiting = deque(enumerate(several))
    running: dict[int, Steps[Done]] = {}
    questions: dict[int, Question] = {}
    answers: dict[int, Any] = {}
    while waiting or running:
        while waiting and len(running) < model.manifest.plan.batch:
            number, steps = waiting.popleft()
            running[number], answers[number] = steps, None
        for number, answer in answers.items():
            step = _next(running[number], answer)
            while step is not None and not isinstance(step, Encode | Decode):
                yield number, step
                step = _next(running[number], None)
            if step is None:
                del running[number]
                yield number, None
            else:
                questions[number] = step
        answers = _answers(model, questions)
        for number in answers:
            del questions[number]


def in_order(done: Iterable[tuple[int, Done | None]], n: int) -> Iterator[Done]:
    """What `together` gives of n generators: all of the first, then all of the second, …, as soon as can be."""
    kept: list[list[Done]] = [[] for _ in range(n)]
    ended: set[int] = set()
    current = 0
    for number, item in done:
        if item is None:
            ended.add(number)
        else:
            kept[number].append(item)
        while current < n:
            yield from kept[current]
            kept[current] = []
            if current not in ended:
                break
            current += 1


def _next(steps: Steps[Done], answer: Any) -> Question | Done | None:
    """The next step after an answer to the last one; None after the last."""
    try:
        return steps.send(answer)
    except StopIteration:
        return None


def _answers(model: Model, questions: dict[int, Question]) -> dict[int, Any]:
    """Answers to those that go together with the most others, by their numbers."""
    windows = {number: question.mel for number, question in questions.items() if isinstance(question, Encode)}
    if windows:
        features = np.asarray(model.encode(np.concatenate([*windows.values()])))
        return {number: features[i : i + 1] for i, number in enumerate(windows)}
    groups: list[dict[int, Decode]] = []
    for number, question in questions.items():
        assert isinstance(question, Decode)
        for group in groups:
            if _alike(next(iter(group.values())), question):
                group[number] = question
                break
        else:
            groups.append({number: question})
    if not groups:
        return {}
    largest = max(groups, key=len)
    features = np.concatenate([np.asarray(question.features) for question in largest.values()])
    results = model.decode_with(features, [question.options for question in largest.values()])
    return dict(zip(largest, results, strict=True))


def _alike(a: Decode, b: Decode) -> bool:
    """Whether both can be rows of one batch: prompts of one length, and the rest but the language the same."""
    lengths = {len(question.options.prompt or ()) for question in (a, b)}
    one, other = (replace(question.options, prompt=None, language=None) for question in (a, b))
    return len(lengths) == 1 and one == other
