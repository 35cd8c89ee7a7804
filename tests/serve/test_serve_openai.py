"""OpenAI's own client speaks with the server; texts, words and times are those of `Model.transcribe`."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import openai
import pytest
from max_whisper import Model, load_audio, render
from support.raw_requests import BOUNDARY, form
from support.server import Server, server
from support.server_fixtures import COMMANDS
from support.sounds import write_wav


def test_json(client: openai.OpenAI, nano: Model) -> None:
    answer = client.audio.transcriptions.create(file=COMMANDS, model="nano")
    expected = nano.transcribe(COMMANDS)
    assert answer.text == expected.text.strip()
    assert answer.usage is not None and answer.usage.type == "duration"
    assert answer.usage.seconds == round(expected.duration, 3)
    assert [language.code for language in answer.languages or []] == [expected.language]
    assert answer._request_id and answer._request_id.startswith("req_")


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_forms_of_text(client: openai.OpenAI, nano: Model, form: str) -> None:
    answer = client.audio.transcriptions.create(file=COMMANDS, model="nano", response_format=form)
    expected = nano.transcribe(COMMANDS)
    assert answer == (expected.text.strip() + "\n" if form == "text" else render(expected, form))


def test_verbose_json_has_words_and_segments(client: openai.OpenAI, nano: Model) -> None:
    answer = client.audio.transcriptions.create(
        file=COMMANDS, model="nano", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    expected = nano.transcribe(COMMANDS, word_timestamps=True)
    words = [word for segment in expected.segments for word in segment.words or ()]
    assert len(words) > 5
    assert [(word.word, word.start, word.end) for word in answer.words or []] == [
        (word.word.strip(), word.start, word.end) for word in words
    ]
    for mine, theirs in zip(answer.segments or [], expected.segments, strict=True):
        names = ("seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "no_speech_prob")
        assert [getattr(mine, name) for name in names] == [getattr(theirs, name) for name in names]
    assert answer.duration == expected.duration
    assert answer.language == "english"


def test_granularities_are_what_is_listed(client: openai.OpenAI) -> None:
    def asked(*granularities: str) -> tuple[bool, bool]:
        answer = client.audio.transcriptions.create(
            file=COMMANDS, model="nano", response_format="verbose_json", timestamp_granularities=[*granularities]
        )
        return answer.segments is not None, answer.words is not None

    assert asked() == (True, False)
    assert asked("segment") == (True, False)
    assert asked("word") == (False, True)


def test_options_reach_the_model(client: openai.OpenAI, model: Model, brief: Path) -> None:
    """Each of these options changes the text that random weights give."""
    sound = load_audio(brief)
    asked = {
        "language": ({"language": "de"}, {"language": "de"}),
        "prompt": ({"language": "de", "prompt": "one two"}, {"language": "de", "initial_prompt": "one two"}),
        "keywords": ({"language": "de", "keywords": ["Tor", "Tür"]}, {"language": "de", "hotwords": "Tor, Tür"}),
        "temperature": ({"language": "de", "temperature": 0.7}, {"language": "de", "temperature": (0.7,)}),
    }
    texts = {}
    for name, (fields, options) in asked.items():
        answer = client.audio.transcriptions.create(file=brief, model="multilingual", **fields)
        texts[name] = answer.text
        assert answer.text == model.transcribe(sound, **options).text.strip(), name
    assert len({*texts.values()}) == len(texts)


def test_one_of_several_languages_is_taken(client: openai.OpenAI, model: Model, brief: Path) -> None:
    probabilities = model.detect_language(model.encode(model.windows(brief)[:1]))[0]
    ranked = [*probabilities]
    for among in (ranked[:2], ranked[4:8], [ranked[-1]]):
        answer = client.audio.transcriptions.create(file=brief, model="multilingual", languages=among[::-1])
        assert [language.code for language in answer.languages or []] == among[:1]
        assert answer.text == model.transcribe(brief, language=among[0]).text.strip()


def test_the_language_is_that_of_speech(client: openai.OpenAI, model: Model, tmp_path: Path, silero: Path) -> None:
    """Where only speech is transcribed, a silence at the beginning says nothing about the language."""
    late = np.concatenate([np.zeros(31 * 16000, np.float32), load_audio(COMMANDS)])
    path = write_wav(tmp_path / "late.wav", late)
    window = model.transcriber(path, vad_filter=True, vad_model=silero).first_window()
    heard = [*model.detect_language(model.encode(window[None]))[0]]
    silent = [*model.detect_language(model.encode(model.windows(path)[:1]))[0]]
    first, second = next((a, b) for a, b in pairwise(heard) if silent.index(a) > silent.index(b))
    answer = client.audio.transcriptions.create(
        file=path, model="multilingual", languages=[second, first], chunking_strategy="auto"
    )
    assert [language.code for language in answer.languages or []] == [first]


@pytest.mark.filterwarnings("ignore:deprecated")
def test_translations(client: openai.OpenAI, model: Model, brief: Path) -> None:
    answer = client.audio.translations.create(
        file=brief, model="multilingual", prompt="one", response_format="verbose_json"
    )

    def expected(task: str) -> list[tuple[str, float]]:
        segments = model.transcribe(brief, task=task, initial_prompt="one").segments
        return [(segment.text, segment.avg_logprob) for segment in segments]

    assert [(one.text, one.avg_logprob) for one in answer.segments or []] == expected("translate")
    assert model.transcribe(brief, task="translate", initial_prompt="one").language != "en"
    assert answer.language == "english"  # that of the text, whatever was spoken
    assert expected("translate") != expected("transcribe")


def test_only_speech_is_transcribed(client: openai.OpenAI, nano: Model, tmp_path: Path, silero: Path) -> None:
    options = {"vad_threshold": 0.6, "vad_speech_pad_ms": 100, "vad_min_silence_duration_ms": 500}
    strategy = {"type": "server_vad", "threshold": 0.6, "prefix_padding_ms": 100, "silence_duration_ms": 500}
    for given, expected in (("auto", {}), (strategy, options)):
        answer = client.audio.transcriptions.create(
            file=COMMANDS, model="nano", chunking_strategy=given, response_format="verbose_json"
        )
        result = nano.transcribe(COMMANDS, vad_filter=True, vad_model=silero, **expected)
        assert [(one.start, one.end, one.text) for one in answer.segments or []] == [
            (one.start, one.end, one.text) for one in result.segments
        ]


def test_stream(client: openai.OpenAI, nano: Model) -> None:
    events = [*client.audio.transcriptions.create(file=COMMANDS, model="nano", stream=True, include=["logprobs"])]
    deltas = [event for event in events if event.type == "transcript.text.delta"]
    (done,) = [event for event in events if event.type == "transcript.text.done"]
    result = nano.transcribe(COMMANDS)
    assert done.text == result.text.strip() == "".join(delta.delta for delta in deltas)
    assert len(deltas) == len([window for window in result.windows if window.segments])
    tokens = [token for delta in deltas for token in delta.logprobs or []]
    assert [token.to_dict() for token in tokens] == [token.to_dict() for token in done.logprobs or []]
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode().strip() == done.text
    assert done.usage is not None
    assert done.usage.output_tokens == sum(len(window.result.tokens) for window in result.windows)


@pytest.mark.parametrize("name", ["nano", "multilingual"])
def test_a_stream_is_the_text_at_the_end(client: openai.OpenAI, name: str) -> None:
    """Random weights write bytes that are no characters, and spaces at the ends of windows."""
    events = [*client.audio.transcriptions.create(file=COMMANDS, model=name, stream=True)]
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert events[-1].text == client.audio.transcriptions.create(file=COMMANDS, model=name).text


def test_log_probabilities(client: openai.OpenAI, nano: Model) -> None:
    answer = client.audio.transcriptions.create(file=COMMANDS, model="nano", include=["logprobs"])
    result = nano.transcribe(COMMANDS, token_logprobs=True)
    eot = nano.manifest.tokens.eot
    expected = [token for segment in result.segments for token in segment.tokens if token < eot]
    listed = answer.logprobs or []
    assert [bytes(map(int, token.bytes or [])) for token in listed] == [
        nano.tokenizer.token_bytes(token) for token in expected
    ]
    assert all(-20 < (token.logprob or math.nan) <= 0 for token in listed)
    assert answer.logprobs is not None
    assert client.audio.transcriptions.create(file=COMMANDS, model="nano").logprobs is None


def test_models(client: openai.OpenAI, shared: Server) -> None:
    assert [model.id for model in client.models.list()] == ["nano", "multilingual", "english"]
    assert client.models.retrieve("english").id == "english"
    assert client.models.retrieve("whisper-1").id == "nano"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("english2")
    assert error.value.code == "model_not_found"


def test_the_first_model_is_whisper_1(client: openai.OpenAI, shared: Server) -> None:
    expected = client.audio.transcriptions.create(file=COMMANDS, model="nano").text
    assert client.audio.transcriptions.create(file=COMMANDS, model="whisper-1").text == expected
    unnamed = shared.post("/v1/audio/transcriptions", files={"file": COMMANDS.read_bytes()})
    assert unnamed.json()["text"] == expected


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"model": "large"}, "model", "The model 'large' does not exist"),
        ({"response_format": "diarized_json"}, "response_format", "who speaks cannot be told"),
        ({"known_speaker_names": ["Ann"]}, "known_speaker_names[]", "who speaks cannot be told"),
        ({"response_format": "xml"}, "response_format", "expected one of json, text"),
        ({"temperature": 3}, "temperature", "expected a number, 0 to 1, got '3'"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "needs response_format verbose_json"),
        ({"include": ["logprobs"], "response_format": "text"}, "include", "needs response_format json"),
        ({"stream": True, "response_format": "srt"}, "stream", "needs response_format json or text"),
        ({"language": "de", "languages": ["de"]}, "languages", "give either"),
        ({"chunking_strategy": {"type": "other"}}, "chunking_strategy", "expected auto"),
        ({"extra_body": {"hotword": "x"}}, "hotword", "unknown field 'hotword'"),
        ({"language": "klingon"}, "language", "unknown language 'klingon'"),
        ({"language": "de", "model": "english"}, "language", "German"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused(
    client: openai.OpenAI, fields: dict[str, object], param: str | None, sentence: str
) -> None:
    kind = openai.NotFoundError if fields.get("model") == "large" else openai.BadRequestError
    with pytest.raises(kind) as error:
        client.audio.transcriptions.create(**{"file": COMMANDS, "model": "nano", **fields})
    assert sentence.lower() in str(error.value).lower()
    assert error.value.param == param
    assert error.value.type == "invalid_request_error"
    assert error.value.request_id


def test_translations_take_fewer_fields(shared: Server) -> None:
    data, files = {"model": "nano", "language": "en"}, {"file": COMMANDS.read_bytes()}
    answer = shared.post("/v1/audio/translations", data=data, files=files)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "language")


def test_a_name_that_lies(shared: Server, client: openai.OpenAI) -> None:
    """The kind of a file is what its bytes are, as Open WebUI sends webm that is called wav."""
    expected = client.audio.transcriptions.create(file=COMMANDS, model="nano").text
    for name in ("speech.mp3", "speech", "../../speech.wav", "x" * 3000, "a\nb.wav"):
        assert client.audio.transcriptions.create(file=(name, COMMANDS.read_bytes()), model="nano").text == expected


@pytest.mark.parametrize("content", [b"", b"text, and no sound", b"RIFF\0\0\0\0WAVE"], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_what_is_no_sound(shared: Server, content: bytes, stream: bool) -> None:
    files, data = {"file": ("speech.wav", content)}, {"stream": str(stream).lower()}
    answer = shared.post("/v1/audio/transcriptions", files=files, data=data)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "file")
    assert "speech.wav" in error["message"]
    assert shared.left_files() == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"prompt": "diarized_json"}, ""),
        ({"response_format": "diarized_json"}, "response_format: who speaks cannot be told by Whisper"),
        ({"chunking_strategy": '{"type": "server_vad", "threshold": %s}' % ("9" * 400)}, "expected a number, 0 to 1"),
        ({"chunking_strategy": "{}"}, "chunking_strategy: expected auto"),
        ({"stream": "maybe"}, "stream: expected true or false, got 'maybe'"),
    ],
    ids=["a prompt", "a form", "a long number", "no type", "a flag"],
)  # fmt: skip
def test_odd_values(shared: Server, fields: dict[str, str], sentence: str) -> None:
    data = {"model": "nano", **fields}
    answer = shared.post("/v1/audio/transcriptions", files={"file": COMMANDS.read_bytes()}, data=data)
    assert answer.status_code == (400 if sentence else 200)
    assert sentence in (answer.json()["error"]["message"] if sentence else "")
    assert "None" not in answer.text


@pytest.mark.parametrize("charset", ["undefined", "unicode_escape", "utf-7", "x" * 5000])
def test_the_charset_of_a_form_is_not_the_clients(shared: Server, charset: str) -> None:
    content = form(COMMANDS.read_bytes(), **{"\\ud800": "x", "model": "nano"})
    headers = {"content-type": f"multipart/form-data; charset={charset}; boundary={BOUNDARY}"}
    answer = shared.post("/v1/audio/transcriptions", content=content, headers=headers)
    assert answer.status_code == 400
    assert "unknown field" in answer.json()["error"]["message"]


def test_a_missing_detector_is_told_before_a_stream_begins(nano_artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").touch()  # no folder, so that none can be compiled to it
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "temporary").mkdir()
    with server(tmp_path / "temporary", "--model", nano_artifact, env=env) as running:
        with pytest.raises(openai.BadRequestError) as refused:
            running.client().audio.transcriptions.create(
                file=COMMANDS, model="nano", stream=True, chunking_strategy="auto"
            )
        assert "voice detector could not be compiled" in str(refused.value)
