"""Whole recordings beside openai/whisper's own `transcribe`, at real dimensions, temperature 0.

\b
    pip install openai-whisper==20250625
    python transcribe_parity.py ARTIFACT CHECKPOINT RECORDING... [--minutes 10]

Both run in this process on the same weights (CHECKPOINT is the folder that ARTIFACT was built from). Of each recording,
repeated to so many minutes if it is shorter, segments, tokens, seeks, times and words are compared; the least margin
by which the reference chose a token is shown: where that is less than the error of float32, either choice is right.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
from common import use_cpus
from rich.console import Console
from rich.table import Table

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "words": {"word_timestamps": True},
    "no conditioning, clips": {"condition_on_previous_text": False, "clip_timestamps": "0.5,4,5.5"},
    "prompt, without timestamps": {"initial_prompt": "Hello there.", "without_timestamps": True, "sample_len": 60},
    "beams": {"beam_size": 2, "sample_len": 20},
}


def reference(folder: Path) -> Any:
    """openai/whisper's model with the weights of a checkpoint in Hub layout."""
    import torch
    from max_whisper import safetensors
    from whisper.model import ModelDimensions, Whisper

    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    model = Whisper(
        ModelDimensions(
            n_mels=config["num_mel_bins"],
            n_audio_ctx=config["max_source_positions"],
            n_audio_state=config["d_model"],
            n_audio_head=config["encoder_attention_heads"],
            n_audio_layer=config["encoder_layers"],
            n_vocab=config["vocab_size"],
            n_text_ctx=config["max_target_positions"],
            n_text_state=config["d_model"],
            n_text_head=config["decoder_attention_heads"],
            n_text_layer=config["decoder_layers"],
        )
    )
    names = {
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
    }
    state = {}
    for name, array in safetensors.open_tensors(folder / "model.safetensors").items():
        if name == "proj_out.weight":  # tied
            continue
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        state[name] = torch.from_numpy(np.array(array)).float()
    model.load_state_dict(state)
    heads = torch.zeros(config["decoder_layers"], config["decoder_attention_heads"], dtype=torch.bool)
    for layer, head in generation.get("alignment_heads") or []:
        heads[layer, head] = True
    if heads.any():
        model.register_buffer("alignment_heads", heads.to_sparse(), persistent=False)
    return model.eval()


def watch_margins() -> list[float]:
    """The differences between the best and the second score of each greedy choice, as they come."""
    import whisper.decoding

    margins: list[float] = []
    update = whisper.decoding.GreedyDecoder.update

    def watched(decoder: Any, tokens: Any, logits: Any, sum_logprobs: Any) -> Any:
        best, second = logits[0].topk(2).values.tolist()
        margins.append(best - second)
        return update(decoder, tokens, logits, sum_logprobs)

    whisper.decoding.GreedyDecoder.update = watched
    return margins


def compared(theirs: dict[str, Any], ours: Any) -> tuple[int, int, float]:
    """Segments, of them equal, and the largest difference of the times of words (seconds)."""
    expected = [s for s in theirs["segments"] if s["text"].strip() and s["start"] != s["end"]]
    equal, apart = 0, 0.0
    for s, o in zip(expected, ours.segments, strict=False):
        equal += (s["seek"], s["tokens"]) == (o.seek, o.tokens) and np.allclose(
            [s["start"], s["end"]], [o.start, o.end], atol=0.021
        )
        for word, mine in zip(s.get("words", []), o.words or [], strict=False):
            apart = max(apart, abs(word["start"] - mine.start), abs(word["end"] - mine.end))
    return max(len(expected), len(ours.segments)), equal, apart


@click.command(help=__doc__)
@click.argument("artifact", type=click.Path(exists=True, file_okay=False))
@click.argument("checkpoint", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("recordings", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--minutes", type=float, default=0, help="Repeat recordings to this length.")
@click.option("--only", multiple=True, type=click.Choice([*OPTIONS]), help="Of the option sets, these.")
@click.option("--threads", default=2, show_default=True, help="CPUs to use.")
def main(
    artifact: str, checkpoint: Path, recordings: tuple[str, ...], minutes: float, only: tuple[str, ...], threads: int
) -> None:
    use_cpus(threads)
    import max_whisper

    transcription = importlib.import_module("whisper.transcribe")
    theirs, ours = reference(checkpoint), max_whisper.load(artifact)
    margins = watch_margins()
    table = Table("recording", "seconds", "options", "segments", "equal", "words apart", "least margin", "ms per token")
    for recording in recordings:
        waveform = max_whisper.load_audio(recording)
        waveform = np.resize(waveform, max(len(waveform), round(minutes * 60 * 16000)))
        for name in only or OPTIONS:
            given = {"temperature": 0.0, **({"language": "en"} if ours.multilingual else {}), **OPTIONS[name]}
            margins.clear()
            start = perf_counter()
            expected = transcription.transcribe(theirs, waveform, fp16=False, verbose=None, **given)
            between = perf_counter()
            given["max_new_tokens"] = given.pop("sample_len", None)
            found = ours.transcribe(waveform, **given)
            end = perf_counter()
            n, equal, apart = compared(expected, found)
            tokens = max(1, sum(len(window.result.tokens) for window in found.windows))
            table.add_row(
                Path(recording).name,
                f"{len(waveform) / 16000:.0f}",
                name,
                str(n),
                f"{equal}" + ("" if expected["text"] == found.text else ", another text"),
                f"{apart:.2f} s" if given.get("word_timestamps") else "",
                f"{min(margins):.0e}" if margins else "",
                f"{(end - between) / tokens * 1e3:.1f} ({(between - start) / tokens * 1e3:.1f} theirs)",
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
