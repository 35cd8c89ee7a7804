"""The sound that waits for a stream: one thread brings it in, and another one takes all of it at once."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]
"""Mono samples [samples], int16 or float32, as a stream is fed with them."""

LONGEST_SECONDS = 30.0
"""The sound that waits at most, unless another length is asked for."""


@dataclass(frozen=True)
class Loss:
    """A piece of sound that was left out because too much was waiting.

    Attributes:
        at: When it began, in seconds of the sound that was put in.
        seconds: How long it was.
    """

    at: float
    seconds: float


@dataclass(frozen=True)
class Taken:
    """Sound that was taken out of a queue.

    Attributes:
        samples: The samples. In place of sound that was left out they are silent, so that times stay right.
        lost: What was left out.
        ended: Whether no more will come.
    """

    samples: Samples
    lost: list[Loss] = field(default_factory=list)
    ended: bool = False


class SoundQueue:
    """Sound on its way from a thread that hears it to the one that feeds a stream; its memory is bounded.

    A microphone cannot wait: its newest sound is left out while too much of the older one is waiting, and becomes
    silence. A file or a pipe can wait, and loses nothing.
    """

    def __init__(self, sample_rate: int, longest: float = LONGEST_SECONDS) -> None:
        """Starts empty. sample_rate: samples of a second. longest: the seconds that may wait."""
        self._sample_rate = sample_rate
        self._most = max(1, round(longest * sample_rate))
        self._changed = threading.Condition()
        self._parts: deque[Samples | int] = deque()  # a number stands for so many samples that were left out
        self._room = self._most
        self._put = 0  # samples that came in so far, with those that were left out
        self._taken = 0
        self._in_gap = 0  # samples of the first part, which were left out, that were taken already
        self._ended = self._closed = False

    @property
    def seconds(self) -> float:
        """The duration of all sound that came in so far."""
        return self._put / self._sample_rate

    @property
    def ended(self) -> bool:
        """Whether no more sound comes in."""
        return self._ended

    def put(self, samples: Samples, *, wait: bool = False) -> bool:
        """Adds samples, and returns whether more are wanted.

        Args:
            samples: The samples, which the caller does not change any more; always of one type.
            wait: Whether to wait for room. If not, what there is no room for is left out.
        """
        with self._changed:
            while len(samples) and not self._stopped:
                kept, samples = samples[: self._room], samples[self._room :]
                if len(kept):
                    self._parts.append(kept)
                    self._room -= len(kept)
                    self._put += len(kept)
                    self._changed.notify_all()
                elif wait:
                    self._changed.wait()
                else:
                    self._leave_out(len(samples))
                    break
            return not self._stopped

    def end(self) -> None:
        """Says that no more sound comes; what waits can still be taken."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Says that no more sound is wanted: whoever waits to put some in goes on at once, and it is left out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> Taken:
        """Waits until there is sound, and returns all that waits.

        Silence for what was left out is returned in pieces that are no longer than what may wait.

        Args:
            timeout: The seconds after which to return without sound; None waits until there is some, or the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._parts or self._stopped, timeout)
            kind = next((part.dtype for part in self._parts if not isinstance(part, int)), np.dtype(np.float32))
            taken: list[Samples] = [np.zeros(0, kind)]
            lost: list[Loss] = []
            silence = self._most
            while self._parts and silence:
                part = self._parts.popleft()
                if isinstance(part, int):
                    if not self._in_gap:
                        lost.append(Loss(self._taken / self._sample_rate, part / self._sample_rate))
                    count = min(part - self._in_gap, silence)
                    silence -= count
                    self._in_gap += count
                    if self._in_gap < part:
                        self._parts.appendleft(part)
                    else:
                        self._in_gap = 0
                    part = np.zeros(count, kind)
                else:
                    self._room += len(part)
                taken.append(part)
                self._taken += len(part)
            self._changed.notify_all()
            return Taken(np.concatenate(taken), lost, self._stopped and not self._parts)

    @property
    def _stopped(self) -> bool:
        return self._ended or self._closed

    def _leave_out(self, count: int) -> None:
        """Notes that so many samples at the end are left out."""
        self._put += count
        last = self._parts[-1] if self._parts else 0
        if isinstance(last, int) and self._parts:
            self._parts[-1] = last + count
        else:
            self._parts.append(count)
