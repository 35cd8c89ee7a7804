"""`max-whisper verify`."""

from __future__ import annotations

from pathlib import Path

import click

from max_whisper.cli.group import current
from max_whisper.cli.help import HeadedCommand
from max_whisper.cli.options import options_from
from max_whisper.cli.progress import reporting
from max_whisper.errors import MaxWhisperError
from max_whisper.tools.options import VerifyOptions

EXAMPLES = """
max-whisper verify artifacts/tiny
"""


@click.command(cls=HeadedCommand, examples=EXAMPLES)
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option(
    "--audio", metavar="FILE", help="Recording to compare the outputs for.  [default: noise, the same in every run]"
)
@options_from(VerifyOptions)
def verify(artifact: Path, audio: str | None, tokens: int) -> None:
    """Compare a compiled model with transformers.

    ARTIFACT is the folder of the compiled model. The outputs of its layers and the tokens that it chooses are compared
    with those of Hugging Face transformers, the reference, for the same input.

    This needs torch and transformers: pip install 'max-whisper[verify]'. A voice detector is compared with Silero's own
    ONNX file; this needs pip install 'max-whisper[vad]'.
    The layers are compiled once more with all of their outputs, which takes as long as a build. The exit code is 1
    where an error is larger than its bound.
    """
    current().streams.stdout.check()
    with current().interrupts.held():
        from max_whisper.tools.verify.verify import verify as run

    with reporting(f"verifying {artifact}") as progress:
        report_card = run(artifact, audio=audio, n_tokens=tokens, progress=progress)
    report_card.show()
    if not report_card.passed:
        raise MaxWhisperError(f"{artifact} differs from the reference: {report_card.verdict}")
