"""Small files that hold much sound do not keep short ones waiting while they are decoded."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from max_whisper.errors import Cancelled
from max_whisper.runtime.audio.recording import Recording
from max_whisper.serve import transcribing, work
from max_whisper.serve.errors import RequestError
from max_whisper.serve.jobs import Job, gone
from max_whisper.serve.transcribing import Task
from support.in_process import forever, run, service_of, until
from support.sounds import sweep, write_wav

NOTHING: Any = None  # the model of a task that only decodes


def test_short_files_need_not_wait_for_small_ones_of_hours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transcribing, "SHORT_SAMPLES", 16000)
    long, short = write_wav(tmp_path / "long.wav", sweep(2)), write_wav(tmp_path / "short.wav", sweep(0.5))

    async def test() -> None:
        service = service_of()
        decoders, of_the_long = service._decoders, service._decoding[True]

        def decoded(one: work.Work, path: Path) -> asyncio.Future[Recording]:
            task = Task(one, NOTHING, NOTHING)
            return asyncio.ensure_future(one.run(lambda: task.decode(path.open("rb"), path.name)))

        async with AsyncExitStack() as stack:
            works = [
                await stack.enter_async_context(work.admitted(service, "test", forever)) for _ in range(decoders + 1)
            ]
            async with AsyncExitStack() as others:  # they have all places of the long ones
                for _ in range(decoders):
                    others.enter_context(service.decoding(Job("long"), True))
                waiting = [decoded(one, long) for one in works[:-1]]
                await until(lambda: of_the_long.waiting == decoders)
                assert len(await decoded(works[-1], short)) == 8000
                assert not any(one.done() for one in waiting)
                works[0].job.cancel(gone)
                with pytest.raises((Cancelled, RequestError)):
                    await waiting[0]
                assert of_the_long.waiting == decoders - 1
            assert [len(one) for one in await asyncio.gather(*waiting[1:])] == [32000] * (decoders - 1)
        assert [turns._computing for turns in service._decoding.values()] == [0, 0]
        service.close()

    run(test())
