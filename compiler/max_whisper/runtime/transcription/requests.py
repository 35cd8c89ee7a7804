"""The requests that a model answers, each about one window. Everything that a model computes is such an answer.

Requests are values. Those that are alike can be computed as the rows of one batch, whoever makes them.
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
    """The base class of requests. Its parameter is the type of the answer."""


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
        tokens: The tokens of the text, without timestamps. Those that do not fit into the text context are left out.
        language: The code of the language.
        task: "transcribe" or "translate".
        n_frames: The number of mel frames of the window before its padding.
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
        result: The text that was decoded from them.
        options: The options with which it was decoded.
    """

    features: WindowFeatures
    result: DecodingResult
    options: DecodingOptions


@dataclass(frozen=True, eq=False)
class Logprobs(Request[list[float]]):
    """Asks for the log-probability of each token of a text, and of end-of-text behind them if the text ended.

    Attributes:
        features: The features of the window.
        result: The text that was decoded from them.
        options: The options with which it was decoded.
    """

    features: WindowFeatures
    result: DecodingResult
    options: DecodingOptions


@dataclass(frozen=True, eq=False)
class Logits(Request[NDArray[np.float32]]):
    """Asks for the logits after each of the tokens, teacher forced: float32 [length, n_vocab]."""

    features: WindowFeatures
    tokens: Sequence[int]


Done = TypeVar("Done")
"""The type of the results of a transcription, such as windows."""
Steps: TypeAlias = "Generator[Request[Any] | Done, Any, None]"
"""The generator of a transcription: it yields requests, is sent the answer to each, and yields results in between."""


def ask(request: Request[Answer]) -> Generator[Request[Any], Any, Answer]:
    """Yields a request and returns its answer; for generators that are driven as `Steps`, by `yield from`."""
    answer: Answer = yield request
    return answer
