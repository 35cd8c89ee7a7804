"""The base class of decoding rules, and their registry.

A rule masks or rescales the logits of the next token, depending on the tokens so far. Each rule is a class in a file of
its own in `rules/`, which is made from the options of a window; docs/adding-a-rule.md says how to add one. Greedy
search, sampling, beam search and `--explain` all use the same objects.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from max_whisper.errors import UserError
from max_whisper.registry import import_modules

if TYPE_CHECKING:
    from max_whisper.artifact.manifest import WhisperManifest
    from max_whisper.runtime.decoding.options import DecodingOptions
    from max_whisper.runtime.decoding.tokenizer import Tokenizer

Floats: TypeAlias = NDArray[np.float32]
Bounds: TypeAlias = tuple[int, int, int, int]
"""Token ids that may follow: first text, end of text, first timestamp, end of timestamps; half open."""


@dataclass(frozen=True)
class History:
    """The tokens that the decoder has read of one window, in this order.

    Attributes:
        prompt: The previous text, start-of-transcript, language and task.
        prefix: The beginning of the text, where the option `prefix` gives one.
        sampled: The tokens that the decoder chose, timestamps among them.
    """

    prompt: Sequence[int] = ()
    prefix: Sequence[int] = ()
    sampled: Sequence[int] = ()

    @property
    def text(self) -> list[int]:
        """The text of the window so far: the prefix and the sampled tokens."""
        return [*self.prefix, *self.sampled]


class Ranges(Protocol):
    """A rule as ranges of token ids, which depend on what was sampled."""

    @property
    def timestamp_begin(self) -> int:
        """The first id that is a timestamp; all ids below are text."""

    def bounds(self, sampled: Sequence[int]) -> Bounds:
        """Returns the ids that may follow the sampled tokens.

        If the last two of these are text, the result must be the same as before the last one, because it is kept then.
        """


@dataclass(frozen=True)
class CompiledForm:
    """A rule as data for the compiled graphs, which then choose the tokens themselves.

    Attributes:
        suppressed_first: Ids that cannot be the first token.
        suppressed_later: Ids that cannot be any later token.
        ranges: The ids that may follow, or None for all. If the timestamps among them are together more probable than
            the most probable text, the graphs choose one of them.
    """

    suppressed_first: tuple[int, ...] = ()
    suppressed_later: tuple[int, ...] = ()
    ranges: Ranges | None = None


class LogitRule(ABC):
    """A decoding rule. An object is made for one or more windows with the same options, and has no state.

    Attributes:
        name: What `--explain` calls the rule: the name of the option that turns it on.
        order: Rules are applied in ascending order.
    """

    name: ClassVar[str]
    order: ClassVar[int]

    @classmethod
    @abstractmethod
    def of(cls, options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> LogitRule | None:
        """Returns the rule that the options ask for, or None if they turn it off.

        Args:
            options: The options of a window, which are checked already. Windows that are decoded together differ in
                language and prompt, so a rule must not depend on these (`History.prompt` has them for each window).
            manifest: Facts of the model: `manifest.tokens` has the special tokens, `manifest.dims` the sizes.
            tokenizer: The text of token ids, and the ids of a text.
        """

    @abstractmethod
    def apply(self, logits: Floats, history: History) -> None:
        """Changes the logits of the next token in place: -inf masks a token.

        Args:
            logits: float32 [n_vocab], as the rules before this one left them.
            history: The tokens before the next one.
        """

    def reason(self, token: int, history: History) -> str:
        """Returns why `apply` kept a token from being chosen, or "" if the rule's name says all."""
        return ""

    def compiled(self) -> CompiledForm | None:
        """Returns the same rule as data for the compiled graphs, or None if they cannot apply it.

        If one active rule has none, the tokens are chosen on the host, by `apply`.
        """
        return None


RuleType = TypeVar("RuleType", bound=type[LogitRule])
_rules: dict[str, type[LogitRule]] = {}


def register(name: str, *, order: int) -> Callable[[RuleType], RuleType]:
    """Returns a decorator that registers a class as the decoding rule `name`.

    It raises ValueError where another rule has the name or the order.
    """

    def add(cls: RuleType) -> RuleType:
        for other in _rules.values():
            if name == other.name:
                raise ValueError(f"two classes for the decoding rule {name!r}: {other.__name__} and {cls.__name__}")
            if order == other.order:
                raise ValueError(f"the decoding rules {other.name!r} and {name!r} have the same order {order}")
        cls.name, cls.order = name, order
        _rules[name] = cls
        return cls

    return add


def rules() -> list[type[LogitRule]]:
    """Returns all decoding rules in the order in which they are applied."""
    import_modules("max_whisper.runtime.decoding.rules")
    return sorted(_rules.values(), key=lambda rule: rule.order)


def active_rules(options: DecodingOptions, manifest: WhisperManifest, tokenizer: Tokenizer) -> list[LogitRule]:
    """Returns the rules that the options turn on, in the order in which they are applied."""
    candidates = (rule.of(options, manifest, tokenizer) for rule in rules())
    return [rule for rule in candidates if rule is not None]


def compiled_form(active: Sequence[LogitRule]) -> CompiledForm | None:
    """Returns several rules as data for the compiled graphs, or None if these cannot apply all of them."""
    forms: list[CompiledForm] = []
    for rule in active:
        form = rule.compiled()
        if form is None:
            return None
        forms.append(form)
    ranges = [form.ranges for form in forms if form.ranges is not None]
    if len(ranges) > 1:
        return None
    return CompiledForm(
        tuple(token for form in forms for token in form.suppressed_first),
        tuple(token for form in forms for token in form.suppressed_later),
        ranges[0] if ranges else None,
    )


def processed(active: Sequence[LogitRule], logits: Floats, history: History) -> Floats:
    """Returns the logits [n_vocab] of the next token after all rules. Raises UserError if these mask every token."""
    scores: Floats = logits.copy()
    for rule in active:
        rule.apply(scores, history)
    if scores.max() == -np.inf:
        names = ", ".join(rule.name for rule in active)
        raise UserError(
            f"decoding rules {names}: together they mask every token after the first {len(history.sampled)} of a "
            "window; loosen one of them"
        )
    return scores
