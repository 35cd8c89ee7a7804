"""Lists every class of options, for the tests that go through all of them."""

from __future__ import annotations

from max_whisper.batch.options import BatchOptions
from max_whisper.cli.live.options import SourceOptions
from max_whisper.cli.options import FallbackOptions, ThreadOptions
from max_whisper.compile.options import BuildOptions
from max_whisper.options import Options
from max_whisper.runtime.decoding.options import DecodingOptions
from max_whisper.runtime.output.options import SubtitleOptions
from max_whisper.runtime.streaming.options import StreamOptions
from max_whisper.runtime.transcription.options import TranscribeOptions
from max_whisper.runtime.transcription.part_options import PartOptions
from max_whisper.serve.options import ServeOptions
from max_whisper.tools.options import BenchOptions, VerifyOptions

CLASSES: tuple[type[Options], ...] = (
    BatchOptions,
    BenchOptions,
    BuildOptions,
    DecodingOptions,
    FallbackOptions,
    PartOptions,
    ServeOptions,
    SourceOptions,
    StreamOptions,
    SubtitleOptions,
    ThreadOptions,
    TranscribeOptions,
    VerifyOptions,
)
