"""Makes tests/golden/transcribe.json: what openai/whisper's `transcribe` makes of long recordings, option by option.

Run by hand, where openai-whisper is installed beside max-whisper; the tests do not need it:

    pip install openai-whisper==20250625 && python tests/make_golden_transcribe.py

The recordings, options and models are those of transcribe_cases.py. openai/whisper's own code runs, with the length of
its window and its vocabulary replaced by theirs.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken
import torch
import whisper.decoding
import whisper.tokenizer
from checkpoints import make_tokens
from max_whisper import safetensors
from max_whisper.runtime.tokenizer import _PATTERN
from max_whisper.weights.vocabulary import byte_of_character
from small import SMALL
from transcribe_cases import FAMILIES, GOLDEN, WINDOW, cases, checkpoint, options_of, sounds
from whisper.model import ModelDimensions, Whisper

transcription = importlib.import_module("whisper.transcribe")  # `whisper.transcribe` is its function of that name

MIN_MARGIN = 5e-5  # by which a token must beat the others, or another machine may rightly choose another


def reference(folder: Path, family: str) -> Whisper:
    """openai/whisper's model with a checkpoint's weights, and the rest of openai/whisper made to fit it."""
    tokens = make_tokens(family)
    generation = json.loads((folder / "generation_config.json").read_text())
    dims = ModelDimensions(
        n_mels=SMALL["n_mels"],
        n_audio_ctx=SMALL["n_audio_ctx"],
        n_audio_state=SMALL["d_model"],
        n_audio_head=SMALL["n_heads"],
        n_audio_layer=SMALL["encoder_layers"],
        n_vocab=SMALL["n_vocab"],
        n_text_ctx=SMALL["n_text_ctx"],
        n_text_state=SMALL["d_model"],
        n_text_head=SMALL["n_heads"],
        n_text_layer=SMALL["decoder_layers"],
    )
    multilingual = bool(tokens.languages)

    class Small(Whisper):
        is_multilingual = multilingual
        num_languages = len(tokens.languages)

    model = Small(dims)
    arrays = safetensors.open_tensors(folder / "model.safetensors")
    model.load_state_dict({renamed(name): torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    transcription.N_FRAMES = WINDOW // 160
    transcription.N_SAMPLES = WINDOW
    whisper.decoding.CHUNK_LENGTH = WINDOW / 16000
    table = byte_of_character()
    ranks = {bytes(table[c] for c in token): i for token, i in tokens.vocab.items() if token}
    special = {name.replace("nocaptions", "nospeech"): i for name, i in tokens.special.items()}
    encoding = tiktoken.Encoding("small", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=special)

    def get_tokenizer(
        multilingual: bool, *, num_languages: int = 99, language: str | None = None, task: str | None = None
    ) -> whisper.tokenizer.Tokenizer:
        if not multilingual:
            language = task = None
        else:
            language, task = language or "en", task or "transcribe"
        return whisper.tokenizer.Tokenizer(encoding, num_languages, language, task)

    transcription.get_tokenizer = whisper.decoding.get_tokenizer = get_tokenizer
    heads = torch.zeros(dims.n_text_layer, dims.n_text_head, dtype=torch.bool)
    for layer, head in generation["alignment_heads"]:
        heads[layer, head] = True
    model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
    # The list of a checkpoint is the reference: openai/whisper finds the same by encoding symbols.
    suppressed = tuple(generation["suppress_tokens"])
    whisper.tokenizer.Tokenizer.non_speech_tokens = property(lambda self: suppressed)
    return model.eval()


def renamed(name: str) -> str:
    """A tensor's name in openai/whisper, from its name in transformers."""
    for theirs, ours in {
        "model.": "",
        "layers.": "blocks.",
        "self_attn_layer_norm": "attn_ln",
        "encoder_attn_layer_norm": "cross_attn_ln",
        "final_layer_norm": "mlp_ln",
        "self_attn": "attn",
        "encoder_attn": "cross_attn",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "embed_tokens": "token_embedding",
        "embed_positions.weight": "positional_embedding",
        "encoder.layer_norm": "encoder.ln_post",
        "decoder.layer_norm": "decoder.ln",
    }.items():
        name = name.replace(theirs, ours)
    return name


class Margins:
    """The least difference by which a token was chosen."""

    def __init__(self) -> None:
        self.least = np.inf
        update = whisper.decoding.GreedyDecoder.update

        def watched(decoder: Any, tokens: Any, logits: torch.Tensor, sum_logprobs: Any) -> Any:
            best, second = logits[0].topk(2).values.tolist()
            self.least = min(self.least, best - second)
            return update(decoder, tokens, logits, sum_logprobs)

        whisper.decoding.GreedyDecoder.update = watched


def words(segment: dict[str, Any]) -> list[list[Any]] | None:
    """Word, start, end and probability of each, where they were asked for."""
    if "words" not in segment:
        return None
    return [[w["word"], float(w["start"]), float(w["end"]), round(w["probability"], 6)] for w in segment["words"]]


def main() -> None:
    golden: dict[str, Any] = {}
    margins = Margins()
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            model = reference(checkpoint(Path(folder), family), family)
            for sound, name in cases(family):
                waveform, margins.least = sounds()[sound], np.inf
                result = transcription.transcribe(
                    model, waveform.copy(), fp16=False, verbose=None, **options_of(family, name)
                )
                if margins.least < MIN_MARGIN:
                    print(f"{family}, {sound}, {name}: left out, a token won by {margins.least:.0e} only")
                    continue
                segments = [
                    [s["seek"], s["start"], s["end"], s["tokens"], s["avg_logprob"], s["no_speech_prob"], words(s)]
                    for s in result["segments"]
                    if s["text"]
                ]
                golden[f"{family}, {sound}, {name}"] = {
                    "language": result["language"],
                    "text": result["text"],
                    "segments": segments,
                }
                windows = len({s[0] for s in segments})
                print(f"{family}, {sound}, {name}: {len(segments)} segments in {windows} windows", flush=True)
    lines = [f"{json.dumps(case)}:{json.dumps(result, separators=(',', ':'))}" for case, result in golden.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
