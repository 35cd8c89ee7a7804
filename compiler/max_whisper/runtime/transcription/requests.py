"""What is asked of a model, for one window each: every answer of a model is one to a request.

A request is a value. Those that are alike can be answered as the rows of one batch, whoever asks them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.features import WindowFeatures
from max_whisper.runtime.results import DecodingResult, Override
from max_whisper.runtime.transcription.words import Timing

Answer = TypeVar("Answer")


class Request(Generic[Answer]):
    """The base of requests, with the type of their answers."""


@dataclass(frozen=True, eq=False)
class Encode(Request[WindowFeatures]):
    """Asks for the features of a window.

    Attributes:
        mel: The log-mel spectrogram of the window, float32 [n_mels, n_frames].
    """

    mel: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DetectLanguage(Request[dict[str, float]]):
    """Asks for the probability of each language in a window, the most probable language first."""

    features: WindowFeatures


@dataclass(frozen=True, eq=False)
class Decode(Request[DecodingResult]):
    """Asks for the text of a window. The options of a multilingual model must name the language."""

    features: WindowFeatures
    options: DecodingOptions


@dataclass(frozen=True, eq=False)
class Align(Request[list[Timing]]):
    """Asks for the words of the text of a window, and when each was said.

    Attributes:
        features: The features of the window.
        tokens: The text tokens. Those that do not fit into the text context are left out.
        language: The code of the language.
        task: "transcribe" or "translate".
        n_frames: The number of mel frames of the window that are sound.
    """

    features: WindowFeatures
    tokens: Sequence[int]
    language: str
    task: str
    n_frames: int


@dataclass(frozen=True, eq=False)
class Explain(Request[list[Override]]):
    """Asks at which steps the decoder did not choose the token with the largest logit, and why.

    Attributes:
        features: The features of the window.
        result: The text that the decoder found for them.
        options: The options with which it did.
    """

    features: WindowFeatures
    result: DecodingResult
    options: DecodingOptions


@dataclass(frozen=True, eq=False)
class Logits(Request[NDArray[np.float32]]):
    """Asks for the logits after each of some tokens, float32 [length, n_vocab], teacher forced."""

    features: WindowFeatures
    tokens: Sequence[int]


Done = TypeVar("Done")
Steps: TypeAlias = "Generator[Request[Any] | Done, Any, None]"
"""A transcription under way: yields requests, to each of which it is sent the answer, and what is done in between."""


def ask(request: Request[Answer]) -> Generator[Request[Any], Any, Answer]:
    """Yields a request and returns its answer, to be used by generators with `yield from`."""
    answer: Answer = yield request
    return answer
