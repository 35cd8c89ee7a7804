"""Trains the nano model and writes specs/nano: weights, configuration, vocabulary and the plot of the training.

    python train.py [--out ../../specs/nano] [--work WORK]

Seeded; 40 minutes on 2 cores. In stages the windows grow from 2 to 10 s. A short window stands anywhere on the 10 s
grid: its positions and its timestamps begin at a random offset, so that all of them are learned from the start. Beside
the cross-entropy of the tokens, the encoder learns the words with CTC at first; from random weights the attention of
the decoder finds nothing to look at without it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the windows are made beside the training, on the same CPUs

import numpy as np
import torch
from max_whisper.runtime.audio.mel import log_mel
from max_whisper.spec import load_spec
from metrics import word_error_rate
from plot import plot
from rich.progress import Progress, TextColumn, track
from safetensors.torch import load_file, save_file
from speech import INVENTED, TEST_VARIANTS, TRAIN_VARIANTS, Phrase, some_words, speak
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import WhisperConfig, WhisperForConditionalGeneration
from vocabulary import SPECS, WORDS, Vocabulary
from windows import Window, compose, disturb, no_speech, warped

IGNORED = -100  # a target that does not count
TIMESTAMPS, PREVIOUS_TEXT, NO_SPEECH = 0.6, 0.3, 0.1  # fractions of the windows


@dataclass(frozen=True)
class Stage:
    """A stage of the training.

    Attributes:
        seconds: The length of its windows.
        steps: The number of its steps.
        batch: Windows in a step.
        ctc: The weight of the CTC loss at the beginning and at the end; that of the cross-entropy is 1.
        longest: The most words of a phrase.
        everywhere: Whether windows stand anywhere on the grid, not at its start.
        disturbed: The fraction of windows with noise, a room and the like.
        warped: The fraction of windows whose voices are made higher or lower.
    """

    seconds: float
    steps: int
    batch: int
    ctc: tuple[float, float]
    longest: int = 5
    everywhere: bool = True
    disturbed: float = 1.0
    warped: float = 0.0


STAGES = (
    Stage(2, 700, 48, (0.5, 0.5), longest=2, everywhere=False, disturbed=0.2),
    Stage(2, 800, 48, (0.5, 0.3)),
    Stage(5, 800, 32, (0.3, 0.1)),
    Stage(10, 1000, 24, (0.1, 0.0)),
)
MORE_STAGES = (
    Stage(5, 2600, 32, (0.3, 0.1), disturbed=0.75, warped=0.2),
    Stage(10, 1800, 24, (0.1, 0.0), disturbed=0.75, warped=0.2),
)
MORE_RATE = 0.8  # of the peak rates
PEAK_RATES, WARM_UP = {"muon": 5e-3, "adamw": 2e-3}, 100
MEASURED = 100  # the steps from one measurement of the word error rate to the next


class Windows(IterableDataset):
    """Yields endless random windows of a stage, a batch at a time."""

    def __init__(
        self, speakers: list[list[Phrase]], vocabulary: Vocabulary, dims: dict[str, int], stage: Stage, seed: int
    ) -> None:
        self.speakers, self.vocabulary, self.dims, self.stage, self.seed = speakers, vocabulary, dims, stage, seed

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        info = get_worker_info()
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        while True:
            yield collate([self.one(rng) for _ in range(self.stage.batch)], self.vocabulary["endoftext"])

    def one(self, rng: np.random.Generator) -> tuple[np.ndarray, int, list[int], list[int], list[int]]:
        """Returns log-mel [n_mels, frames], offset on the grid, tokens, the target of each, and the words."""
        stage = self.stage
        disturbed = rng.random() < stage.disturbed
        if rng.random() < NO_SPEECH:
            window = no_speech(rng, stage.seconds)
        else:
            speaker = self.speakers[rng.integers(len(self.speakers))]
            fitting = [phrase for phrase in speaker if len(phrase.words) <= stage.longest]
            if rng.random() < stage.warped:
                factor = rng.uniform(0.85, 1.18)
                fitting = [warped(phrase, factor) for phrase in fitting]
            window = compose(rng, fitting, stage.seconds)
            if disturbed:
                window.samples = disturb(rng, window.samples)
        mel = self.mel(rng, window)
        places = self.dims["n_audio_ctx"] - mel.shape[1] // 2 + 1 if stage.everywhere else 1
        offset = int(rng.integers(places))
        tokens, targets = self.tokens(rng, window, offset * 0.02)
        return (
            masked(rng, mel) if disturbed else mel,
            offset,
            tokens,
            targets,
            [word for phrase in window.words for word in phrase],
        )

    def mel(self, rng: np.random.Generator, window: Window) -> np.ndarray:
        """Returns the log-mel as `transcribe` makes it; some recordings end in the window, with zeros after them."""
        frames = len(window.samples) // 160
        end = max([0.0, *(end for _, end in window.times)])
        if window.cut is None and rng.random() < 0.4:
            length = rng.integers(min(round(end * 100), frames - 1), frames) + 1
            mel = log_mel(window.samples[: length * 160], self.dims["n_mels"], padding=(frames - length) * 160 + 3200)
            mel = mel[:, :frames]
            if rng.random() < 0.5:
                mel[:, length:] = 0
            return mel
        return log_mel(window.samples, self.dims["n_mels"])

    def tokens(self, rng: np.random.Generator, window: Window, offset: float) -> tuple[list[int], list[int]]:
        """Returns what the decoder reads, and what it has to choose after each token."""
        v = self.vocabulary
        sot, en, transcribe, eot = v["startoftranscript"], v["en"], v["transcribe"], v["endoftext"]
        text: list[int] = []
        stamped = rng.random() < TIMESTAMPS or window.cut is not None
        for words, (start, end) in zip(window.words, window.times, strict=True):
            ids = [v.word_ids[word] for word in words]
            text += [v.timestamp(offset + start), *ids, v.timestamp(offset + end)] if stamped else ids
        if window.cut is not None:  # whisper's training data: only the start of a segment that is cut off
            text.append(v.timestamp(offset + window.cut))
        silent = not text
        if silent and stamped:
            text = [v["0.00"]]
        prompt = [sot, en, transcribe] + ([] if stamped else [v["notimestamps"]])
        previous = self.previous(rng) if rng.random() < PREVIOUS_TEXT else []
        tokens = [*previous, *prompt, *text]
        targets = [IGNORED] * len(previous) + [
            v["nospeech"] if silent else en,
            *[IGNORED] * (len(prompt) - 2),
            *text,
            eot,
        ]
        return tokens, targets

    def previous(self, rng: np.random.Generator) -> list[int]:
        """Returns the end of the text before the window, more often than not with timestamps."""
        v, n_audio_ctx = self.vocabulary, self.dims["n_audio_ctx"]
        stamped, tokens, time = rng.random() < 0.7, [], 0
        for _ in range(rng.integers(1, 7)):
            start = time + int(rng.exponential(25))
            time = start + int(rng.uniform(20, 120))
            if time >= n_audio_ctx:
                break
            ids = [v.word_ids[word] for word in some_words(rng, len(v.word_ids))]
            tokens += [v.timestamp(start * 0.02), *ids, v.timestamp(time * 0.02)] if stamped else ids
        return [v["startofprev"], *tokens[1 - self.dims["n_text_ctx"] // 2 :]]


def masked(rng: np.random.Generator, mel: np.ndarray) -> np.ndarray:
    """Returns the log-mel, sometimes without a band and a moment (SpecAugment)."""
    if rng.random() < 0.4:
        band, height = rng.integers(0, mel.shape[0] - 12), rng.integers(1, 12)
        mel[band : band + height] = mel.mean()
        moment, length = rng.integers(0, mel.shape[1] - 10), rng.integers(1, 10)
        mel[:, moment : moment + length] = mel.mean()
    return mel


def collate(rows: list[tuple[np.ndarray, int, list[int], list[int], list[int]]], eot: int) -> dict[str, torch.Tensor]:
    mels, offsets, tokens, targets, words = zip(*rows, strict=True)
    length = max(map(len, tokens))
    return {
        "mel": torch.from_numpy(np.stack(mels)),
        "offset": torch.tensor(offsets),
        "tokens": torch.tensor([row + [eot] * (length - len(row)) for row in tokens]),
        "targets": torch.tensor([row + [IGNORED] * (length - len(row)) for row in targets]),
        "words": torch.tensor([word for row in words for word in row], dtype=torch.long),
        "lengths": torch.tensor([len(row) for row in words]),
    }


class Trainee(torch.nn.Module):
    """Whisper, and a CTC layer over its encoder that is thrown away in the end."""

    def __init__(self, config: WhisperConfig, n_words: int) -> None:
        super().__init__()
        self.whisper = WhisperForConditionalGeneration(config)
        self.ctc = torch.nn.Linear(config.d_model, n_words + 1)
        for module in self.whisper.modules():
            # With transformers' own 0.02 a narrow model hears nothing at first: the positions drown the sound.
            if isinstance(module, torch.nn.Conv1d):
                torch.nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, torch.nn.Linear) and module is not self.whisper.proj_out:
                torch.nn.init.xavier_normal_(module.weight)

    def encode(self, mel: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Returns features [batch, frames / 2, d_model] of windows that begin at `offset` on the grid of positions."""
        encoder = self.whisper.model.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
        x = x + encoder.embed_positions.weight[offset[:, None] + torch.arange(x.shape[1])]
        for layer in encoder.layers:
            x = layer(x, None)
            x = x[0] if isinstance(x, tuple) else x
        return encoder.layer_norm(x)

    def losses(self, batch: dict[str, torch.Tensor], with_ctc: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the cross-entropy of the tokens and the CTC loss of the words."""
        features = self.encode(batch["mel"], batch["offset"])
        hidden = self.whisper.model.decoder(
            input_ids=batch["tokens"], encoder_hidden_states=features, use_cache=False
        ).last_hidden_state
        logits = self.whisper.proj_out(hidden).float()
        entropy = F.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten(), ignore_index=IGNORED)
        if not with_ctc:
            return entropy, torch.zeros(())
        scores = self.ctc(features).float().log_softmax(-1).transpose(0, 1)
        lengths = torch.full((len(batch["mel"]),), scores.shape[0])
        ctc = F.ctc_loss(scores, batch["words"] + 1, lengths, batch["lengths"], reduction="none", zero_infinity=True)
        return entropy, (ctc / batch["lengths"].clamp(min=1)).mean()


class Exam:
    """Windows of 10 s with voices that the training never hears, for the plot; the model is not chosen by them."""

    def __init__(self, words: list[str], vocabulary: Vocabulary, dims: dict[str, int], n: int = 48) -> None:
        rng = np.random.default_rng(1)
        self.vocabulary = vocabulary
        windows = [
            compose(rng, phrases, 10, max_words=12, cut=0) for phrases in speak(words, n, 6, TEST_VARIANTS, 1, 2)
        ]
        self.expected = [[vocabulary.word_ids[i] for phrase in window.words for i in phrase] for window in windows]
        self.mel = torch.from_numpy(
            np.stack([log_mel(disturb(rng, window.samples), dims["n_mels"]) for window in windows])
        )

    @torch.no_grad()
    def word_error_rate(self, model: Trainee) -> float:
        """Returns the word error rate of the greedy text without timestamps."""
        v = self.vocabulary
        features = model.encode(self.mel, torch.zeros(len(self.mel), dtype=torch.long))
        prompt = [v[name] for name in ("startoftranscript", "en", "transcribe", "notimestamps")]
        tokens = torch.tensor([prompt] * len(self.mel))
        for _ in range(24):
            hidden = model.whisper.model.decoder(input_ids=tokens, encoder_hidden_states=features).last_hidden_state
            tokens = torch.cat([tokens, model.whisper.proj_out(hidden[:, -1]).argmax(-1, keepdim=True)], 1)
        rows = [row[len(prompt) :] for row in tokens.tolist()]
        found = [row[: row.index(v["endoftext"])] if v["endoftext"] in row else row for row in rows]
        return word_error_rate(self.expected, found)


def config_of(dims: dict[str, int], vocabulary: Vocabulary) -> WhisperConfig:
    return WhisperConfig(
        vocab_size=len(vocabulary),
        num_mel_bins=dims["n_mels"],
        d_model=dims["d_model"],
        encoder_layers=dims["encoder_layers"],
        decoder_layers=dims["decoder_layers"],
        encoder_attention_heads=dims["n_heads"],
        decoder_attention_heads=dims["n_heads"],
        encoder_ffn_dim=dims["d_ffn"],
        decoder_ffn_dim=dims["d_ffn"],
        max_source_positions=dims["n_audio_ctx"],
        max_target_positions=dims["n_text_ctx"],
        decoder_start_token_id=vocabulary["startoftranscript"],
        bos_token_id=vocabulary["endoftext"],
        eos_token_id=vocabulary["endoftext"],
        pad_token_id=vocabulary["endoftext"],
        begin_suppress_tokens=None,
        suppress_tokens=None,
    )


def make_optimizers(model: Trainee) -> list[torch.optim.Optimizer]:
    """Returns Muon for the matrices of the layers, which needs half of AdamW's steps here, and AdamW for the rest."""
    matrices = {name: p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name}
    rest = [p for name, p in model.named_parameters() if name not in matrices]
    return [
        torch.optim.Muon(
            [{"params": list(matrices.values()), "peak": PEAK_RATES["muon"]}],
            weight_decay=0.01,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW([{"params": rest, "peak": PEAK_RATES["adamw"]}], weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def learning_rate_factor(step: int, total: int) -> float:
    """Returns the learning rate as a fraction of its peak: linear up, then a cosine down to 0."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (total - WARM_UP)))


def spoken(words: list[str], work: Path, speakers: int, phrases: int, seed: int) -> list[list[Phrase]]:
    """Returns the phrases of the training voices, and keeps them in `work` for the next time."""
    file = work / f"speech-{speakers}-{phrases}-{seed}.npz"
    if not file.exists():
        work.mkdir(parents=True, exist_ok=True)
        made = speak(words, speakers, phrases, TRAIN_VARIANTS, seed, os.cpu_count() or 1, INVENTED)
        made = [phrase for one in track(made, "espeak-ng speaks", speakers) for phrase in one]
        np.savez(
            file,
            samples=np.concatenate([np.round(phrase.samples * 32767).astype(np.int16) for phrase in made]),
            ends=np.cumsum([len(phrase.samples) for phrase in made]),
            words=np.concatenate([phrase.words for phrase in made]),
            word_ends=np.cumsum([len(phrase.words) for phrase in made]),
        )
    with np.load(file) as arrays:
        samples = np.split(arrays["samples"].astype(np.float32) / 32767, arrays["ends"][:-1])
        ids = np.split(arrays["words"], arrays["word_ends"][:-1])
    made = [Phrase(i.tolist(), s) for i, s in zip(ids, samples, strict=True)]
    return [made[i : i + phrases] for i in range(0, len(made), phrases)]


def train(
    model: Trainee,
    exam: Exam,
    speakers: list[list[Phrase]],
    vocabulary: Vocabulary,
    dims: dict[str, int],
    stages: Sequence[Stage],
    rate: float,
    args: argparse.Namespace,
) -> list[tuple[float, ...]]:
    """Trains; returns rows of step, seconds since the start, cross-entropy, CTC loss, and word error rate or NaN."""
    optimizers = make_optimizers(model)
    total, step, begin, rows = sum(stage.steps for stage in stages), 0, time.monotonic(), []
    columns = (*Progress.get_default_columns(), TextColumn("{task.fields[losses]}"))
    with Progress(*columns) as progress:
        for number, stage in enumerate(stages, len(STAGES) if args.more else 0):
            task = progress.add_task(f"windows of {stage.seconds:g} s", total=stage.steps, losses="")
            windows = Windows(speakers, vocabulary, dims, stage, seed=args.seed + number)
            loader = iter(DataLoader(windows, batch_size=None, num_workers=1, prefetch_factor=4))
            for i in range(stage.steps):
                weight = stage.ctc[0] + (stage.ctc[1] - stage.ctc[0]) * i / stage.steps
                for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                    group["lr"] = group["peak"] * rate * learning_rate_factor(step, total)
                with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
                    entropy, ctc = model.losses(next(loader), weight > 0)
                model.zero_grad()
                (entropy + weight * ctc).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                for optimizer in optimizers:
                    optimizer.step()
                step += 1
                errors = exam.word_error_rate(model) if step % MEASURED == 0 or step == total else math.nan
                rows.append((step, time.monotonic() - begin, entropy.item(), ctc.item(), errors))
                progress.update(task, advance=1, losses=f"cross-entropy {entropy:.3f}, CTC {ctc:.2f}")
                if step % MEASURED == 0:
                    mean = np.mean(rows[-MEASURED:], axis=0)
                    progress.print(
                        f"step {step} of {total}, {rows[-1][1]:.0f} s: cross-entropy {mean[2]:.4f}, CTC {mean[3]:.3f}, "
                        f"word error rate {errors:.1%}"
                    )
                if step % MEASURED == 0 or step == total:
                    torch.save(model.state_dict(), args.work / "last.pt")
            del loader
    return rows


def save(model: WhisperForConditionalGeneration, vocabulary: Vocabulary, dims: dict[str, int], folder: Path) -> None:
    """Writes float16 safetensors and configuration, as on the Hub."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.half().contiguous() for name, t in model.state_dict().items() if name != "proj_out.weight"}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {**model.config.to_diff_dict(), "architectures": ["WhisperForConditionalGeneration"], "dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    vocabulary.write(folder, dims)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=SPECS / "nano")
    parser.add_argument("--work", type=Path, default=Path("work"), help="speech, losses and the last state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--more",
        action="store_true",
        help="go on from the last run, or from --out, with MORE_STAGES",
    )
    parser.add_argument("--speakers", type=int, default=1800)
    parser.add_argument("--bfloat16", action="store_true", help="faster where the CPU has bfloat16")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    dims = load_spec(str(SPECS / "nano.yaml")).dims
    words = WORDS.read_text().split()
    vocabulary = Vocabulary(words, dims["n_audio_ctx"])
    model = Trainee(config_of(dims, vocabulary), len(words))
    print(f"{sum(p.numel() for p in model.whisper.parameters()):,} parameters, {len(vocabulary)} tokens")
    speakers = spoken(words, args.work, args.speakers, 20, args.seed)
    exam = Exam(words, vocabulary, dims)
    losses, earlier = args.work / "losses.csv", np.empty((0, 5))
    if args.more and losses.exists():
        model.load_state_dict(torch.load(args.work / "last.pt", weights_only=True))
        earlier = np.loadtxt(losses, delimiter=",", skiprows=1)
    elif args.more:  # from the weights that ship; the CTC layer is not among them
        weights = {f"whisper.{name}": t.float() for name, t in load_file(args.out / "model.safetensors").items()}
        model.load_state_dict(weights, strict=False)
    stages, rate = (MORE_STAGES, MORE_RATE) if args.more else (STAGES, 1.0)
    rows = np.array(train(model, exam, speakers, vocabulary, dims, stages, rate, args))
    if len(earlier):
        rows[:, :2] += earlier[-1, :2]
    header = "step,seconds,cross_entropy,ctc,word_error_rate"
    np.savetxt(losses, np.concatenate([earlier, rows]), "%.4f", ",", header=header, comments="")
    save(model.whisper, vocabulary, dims, args.out)
    plot(losses, args.out / "training.png")


if __name__ == "__main__":
    main()
