"""The option sets with which `transcribe` is compared with openai/whisper's, under openai/whisper's names.

All are at temperature 0, as each side draws samples from other random numbers. The thresholds of silence are for the
models of `tests/support/transcribe_cases.py`; other models need others.
"""

from __future__ import annotations

from typing import Any

PROMPT = "the cat and the rain"
_CLIPS = "0.5,1.5,1.8,2.9"

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "without timestamps": {"without_timestamps": True},
    "no conditioning": {"condition_on_previous_text": False},
    "initial prompt": {"initial_prompt": PROMPT},
    "carried prompt": {"initial_prompt": PROMPT, "carry_initial_prompt": True},
    "long carried prompt": {"initial_prompt": " ".join([PROMPT] * 20), "carry_initial_prompt": True},
    "prefix": {"prefix": "the weather"},
    "clips": {"clip_timestamps": _CLIPS},
    "open clip": {"clip_timestamps": [2.5]},
    "no thresholds": {
        "compression_ratio_threshold": None,
        "logprob_threshold": None,
        "no_speech_threshold": None,
    },
    "silence likely": {"no_speech_threshold": 0.00047, "logprob_threshold": None},
    "silence likely, text likelier": {"no_speech_threshold": 0.00047, "logprob_threshold": -3.2},
    "few tokens": {"sample_len": 7},
    "one token": {"sample_len": 1},
    "blank allowed": {"suppress_blank": False},
    "nothing suppressed": {"suppress_tokens": ""},
    "some suppressed": {"suppress_tokens": [-1, 35, 260, 270, 280]},
    "late start": {"max_initial_timestamp": 2.0},
    "translate": {"task": "translate"},
    "German": {"language": "de"},
    "detected": {"language": None},
    "beams": {"beam_size": 3},
    "beams, patience": {"beam_size": 2, "patience": 2.0},
    "beams, length penalty": {"beam_size": 3, "length_penalty": 0.6},
    "beams without timestamps": {"beam_size": 2, "without_timestamps": True, "sample_len": 50},
    "words": {"word_timestamps": True},
    "words without timestamps": {"word_timestamps": True, "without_timestamps": True},
    "words of few tokens": {"word_timestamps": True, "sample_len": 9},
    "words in clips": {"word_timestamps": True, "clip_timestamps": _CLIPS},
    "words, other marks": {"word_timestamps": True, "prepend_punctuations": "e", "append_punctuations": "a o"},
    "words without spaces": {"word_timestamps": True, "language": "zh"},
    "words, translate": {"word_timestamps": True, "task": "translate"},
    "hallucinations": {"word_timestamps": True, "hallucination_silence_threshold": 0.3},
    "hallucinations, less silence": {"word_timestamps": True, "hallucination_silence_threshold": 0.02},
    "few tokens, no conditioning, prompt": {
        "sample_len": 20,
        "condition_on_previous_text": False,
        "initial_prompt": PROMPT,
    },
}
ONLY_MULTILINGUAL = (
    "translate",
    "German",
    "detected",
    "nothing suppressed",
    "words without spaces",
    "words, translate",
)
