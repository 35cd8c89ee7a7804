"""The options of the server: its address, its limits, and how long it keeps what rests."""

from dataclasses import dataclass
from typing import Annotated

from max_whisper.option_kinds import Integer, Number, Text
from max_whisper.options import Options
from max_whisper.runtime.audio.waveform import MAX_SECONDS

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""The names by which a machine reaches itself."""


@dataclass(frozen=True)
class ServeOptions(
    Options,
    headings={
        "host": "Address",
        "max_requests": "Limits",
        "unload_after": "Models",
        "stop_seconds": "Starting and stopping",
    },
):
    """The address of a server, its limits, and how long it keeps what rests."""

    host: Annotated[
        str,
        Text(
            "Listen at this address. 127.0.0.1 is reached from this machine alone, 0.0.0.0 from every other one, :: "
            "also by IPv6.",
            unit="ADDRESS",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Integer("Listen at this port; 0 takes any that is free.", low=0, high=65_535)] = 8000
    wyoming: Annotated[
        str | None,
        Text(
            "Speak Wyoming as well, for Home Assistant, at this port of 127.0.0.1 or of HOST; 10300 is usual. No key "
            "protects it: whoever reaches the port may use it.",
            unit="[HOST:]PORT",
            unset="only http or https",
        ),
    ] = None
    max_requests: Annotated[
        int,
        Integer(
            "Work on at most this many requests, all that wait among them; one more gets the answer 429 (too many "
            "requests). They take turns: one window of each, then one of the next.",
            low=1,
            high=1000,
        ),
    ] = 64
    max_streams: Annotated[
        int,
        Integer(
            "Transcribe at most this many live streams at once, which count as requests as well. One more at "
            "/v1/realtime is told so and closed; one more by Wyoming is transcribed when its sound has ended.",
            low=0,
            high=1000,
        ),
    ] = 4
    max_upload_mb: Annotated[
        int,
        Integer(
            "Take at most this many megabytes with a request; a larger one gets the answer 413 before more is read. "
            "All uploads together may have eight times as many; beyond that, the answer is 503.",
            low=1,
            high=1_000_000,
            unit="MB",
        ),
    ] = 1024
    max_audio_seconds: Annotated[
        float,
        Number(
            "Take at most this many seconds of sound; a longer recording gets the answer 400. All decoded sound may "
            "have eight times as much, or as many bytes as all uploads if these are more; beyond that, the answer is "
            "503.",
            low=1,
            high=MAX_SECONDS,
            unit="SECONDS",
        ),
    ] = 43_200.0
    max_request_seconds: Annotated[
        float,
        Number(
            "Give a request at most this much time, with its upload and its waiting; one that takes longer is "
            "cancelled, and gets the answer 504.",
            low=0.1,
            high=1_000_000,
            unit="SECONDS",
        ),
    ] = 14_400.0
    unload_after: Annotated[
        float | None,
        Number(
            "Free the memory of a model when nobody has used it for this long; the next request loads it again. none "
            "keeps all models.",
            low=0,
            high=1_000_000,
            unit="SECONDS",
            unset="models are kept",
        ),
    ] = 600.0
    stop_seconds: Annotated[
        float,
        Number(
            "After SIGTERM or Ctrl-C, give running requests this much time to end; the others are then cancelled, and "
            "get the answer 503. A second signal ends the server at once.",
            low=0,
            high=86_400,
            unit="SECONDS",
        ),
    ] = 20.0
