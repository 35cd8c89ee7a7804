"""The graphs of Whisper.

    encoder   mel [batch, n_mels, n_frames]      -> features [batch, n_audio_ctx, d_model]
    cross_kv  features                           -> keys and values of each cross-attention, once per window, and
                                                    the scales of their rows where they are int8
    decoder   tokens [texts, length] that follow -> token [texts, 1] that comes next, its log-probability,
              `position` tokens in the caches       logits [texts, scored, n_vocab] of the last tokens, and the
                                                    probability of one token (no-speech) after the first of these
    step      tokens [texts, length]             -> token [texts, length] that comes after each, its log-probability
    alignment queries of `decoder`, keys         -> scores [batch, heads, length, n_audio_ctx] of those heads of each
                                                    layer that follow the sound, for the times of words

`decoder` serves both the prefill of the prompt and the teacher-forced pass: `length` is symbolic, and `first_scored` is
the index of the first token whose logits are wanted. `step` does the same for one token, or for the few of a draft, and
returns only what the next step needs. The choice of the next token is part of both. The host drives the steps, because
showing tokens as they come, beam search and cancelling need that; it costs little (`benchmarks/overhead.py`).

Each text of a window has a row in the caches: one of several samples or beams. Without `BuildPlan.several_texts` there
is one text of each window, and a step is one token.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from max_whisper.lowering.builder import Builder
from max_whisper.lowering.decoder_context import DecoderContext, KeysValues
from max_whisper.lowering.family import GraphRecipe, register
from max_whisper.lowering.ops import Dim, Input, Program, Value
from max_whisper.lowering.shapes import known
from max_whisper.plan import BuildPlan
from max_whisper.spec import Spec
from max_whisper.spec.layers.cross_attention import CrossAttention
from max_whisper.spec.tree import LayerNode
from max_whisper.tokens import N_BOUNDS


class WhisperBuilder(Builder):
    """Records the programs of Whisper's graphs, with ops that no layer calls."""

    def split_heads(self, x: Value, *, heads: int, dtype: str) -> Value:
        """Returns [batch, heads, length, channels of a head] of [batch, length, channels], as attention reads it."""
        batch, length, channels = x.shape
        shape = (batch, heads, length, known(channels) // heads)
        return self._op("split_heads", {"x": x}, shape, dtype, heads=heads, dtype=dtype)

    def quantize_rows(self, x: Value, *, centered: bool) -> tuple[Value, Value]:
        """Returns the rows of x [batch, heads, length, channels] in int8, and their scales [batch, heads, length].

        centered: the mean of the rows is subtracted first. That changes no attention weight where rows are keys.
        """
        rows, scales = Value(x.shape, "int8"), Value(x.shape[:-1])
        self._record("quantize_rows", {"x": x}, (rows, scales), centered=centered)
        return rows, scales

    def choose_token(self, logits: Value, mask: Value, allowed: Value, noise: Value) -> tuple[Value, Value]:
        """Returns the next token, int64 [texts, length], and its log-probability, by the last rows of logits.

        mask: [n_vocab]. allowed: int64 [texts, length, N_BOUNDS]. noise: [texts, length, n_vocab]. They mean what
        backends/max_selection.py says.
        """
        shape = noise.shape[:2]
        token, logprob = Value(shape, "int64"), Value(shape)
        inputs = {"logits": logits, "mask": mask, "allowed": allowed, "noise": noise}
        self._record("choose_token", inputs, (token, logprob))
        return token, logprob

    def token_probability(self, logits: Value, token: Value) -> Value:
        """Returns the probability [texts, 1] of a token, an int64 scalar on the host, by the first row of logits."""
        return self._op("token_probability", {"logits": logits, "token": token}, (logits.shape[0], 1))

    def attention_scores(self, q: Value, keys: Mapping[str, Value], *, heads: Sequence[int]) -> Value:
        """Returns the scores of these heads of a cross-attention, before the softmax: [batch, heads, length, n_keys].

        q: [batch, length, channels]. keys: those of all heads [batch, heads, n_keys, channels of a head], by the names
        of `cross_attention`'s operands.
        """
        shape = (q.shape[0], len(heads), q.shape[1], keys["keys"].shape[2])
        return self._op("attention_scores", {"q": q, **keys}, shape, heads=tuple(heads))


Memory = list[dict[str, Input]]


class Heads(NamedTuple):
    """The heads of an attention."""

    number: int
    channels: int  # of one head


def encoder(spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    """Returns the graph from log-mel to features."""
    mel = Input((plan.batch, spec.n_mels, spec.n_frames))
    builder = WhisperBuilder(plan.by_name, kinds, {"mel": mel})
    features = spec.encoder.lower(builder, builder.transpose(mel, (0, 2, 1)))
    return builder.program("encoder", {"features": features})


def cross_kv(spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    """Returns the graph from features to the keys and values of each cross-attention, in order."""
    features = Input((plan.batch, spec.n_audio_ctx, spec.d_model))
    builder = WhisperBuilder(plan.by_name, kinds, {"features": features})
    outputs: dict[str, Value] = {}
    for i, layer in enumerate(spec.cross_attentions()):
        builder.begin(layer.path)
        pair = layer.lower_memory(builder, features)
        quantized = plan.cross_kv_dtype == "int8"
        dtype = "float32" if quantized else plan.cross_kv_dtype
        for part, projected in zip(("keys", "values"), pair, strict=True):
            rows = builder.split_heads(projected, heads=layer.heads, dtype=dtype)
            if quantized:
                rows, scales = builder.quantize_rows(rows, centered=part == "keys")
                outputs |= {f"cross_{part}.{i}": rows, f"cross_{part}_scales.{i}": scales}
            else:
                outputs[f"cross_{part}.{i}"] = rows
        builder.begin(None)
    return builder.program("cross_kv", outputs)


def decoder(spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    """Returns the graph from tokens at `position` and after to the next token and to logits."""
    memory = _cross_memory(spec, plan)
    scalars = ("position", "first_scored", "no_speech")
    inputs = _decoder_inputs(spec, plan, memory, "length", 1, scalars=scalars)
    context = _context(inputs, memory, logits_from=inputs["first_scored"])
    builder = WhisperBuilder(plan.by_name, kinds, inputs, context)
    logits = spec.decoder.lower(builder, inputs["tokens"])
    builder.begin(None)
    token, logprob = builder.choose_token(logits, *_rules(inputs))
    no_speech_prob = builder.token_probability(logits, inputs["no_speech"])
    outputs = {"token": token, "logprob": logprob, "no_speech_prob": no_speech_prob, "logits": logits}
    outputs |= {f"queries.{i}": context.queries[i] for i in _aligned_layers(plan)}
    return builder.program("decoder", outputs)


def step(spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    """Returns the graph from the tokens at `position` and after to the token that comes after each of them."""
    memory, length = _cross_memory(spec, plan), "length" if plan.several_texts else 1
    inputs = _decoder_inputs(spec, plan, memory, length, length, scalars=("position",))
    builder = WhisperBuilder(plan.by_name, kinds, inputs, _context(inputs, memory))
    logits = spec.decoder.lower(builder, inputs["tokens"])
    builder.begin(None)
    token, logprob = builder.choose_token(logits, *_rules(inputs))
    return builder.program("step", {"token": token, "logprob": logprob})


def alignment(spec: Spec, plan: BuildPlan, kinds: Collection[str]) -> Program:
    """Returns the graph from queries and keys to the scores of the alignment heads, in order, before the softmax."""
    cross, layers = _cross_memory(spec, plan), _aligned_layers(plan)
    heads = _cross_heads(spec)
    queries = {f"queries.{i}": Input((plan.batch, "length", heads[i].number * heads[i].channels)) for i in layers}
    keys = {i: {name: value for name, value in cross[i].items() if name.startswith("keys")} for i in layers}
    inputs = queries | {f"cross_{name}.{i}": value for i in layers for name, value in keys[i].items()}
    builder = WhisperBuilder(plan.by_name, kinds, inputs)
    outputs = {}
    for i in layers:
        layer_heads = [head for layer, head in plan.alignment_heads if layer == i]
        outputs[f"scores.{i}"] = builder.attention_scores(inputs[f"queries.{i}"], keys[i], heads=layer_heads)
    return builder.program("alignment", outputs)


def _decoder_inputs(
    spec: Spec, plan: BuildPlan, memory: Memory, length: Dim, chosen: Dim, *, scalars: Sequence[str]
) -> dict[str, Input]:
    """Returns the inputs of `decoder` and `step`, in their order: tokens, scalars, rules, caches.

    chosen: the tokens of each text that are chosen, which are those after the last ones of `length`.
    """
    texts: Dim = "texts" if plan.several_texts else plan.batch
    return {
        "tokens": Input((texts, length), "int64"),
        **{name: Input((), "int64", host=True) for name in scalars},
        "mask": Input((spec.n_vocab,)),
        "allowed": Input((texts, chosen, N_BOUNDS), "int64"),
        "noise": Input((texts, chosen, spec.n_vocab)),
        **_caches(_self_heads(spec), texts, spec.n_text_ctx),
        **{f"cross_{name}.{i}": value for i, operands in enumerate(memory) for name, value in operands.items()},
    }


def _cross_memory(spec: Spec, plan: BuildPlan) -> Memory:
    """Returns the keys and values of each cross-attention, in order, by the names of the operands that read them."""
    memory = []
    for heads in _cross_heads(spec):
        rows = (plan.batch, heads.number, spec.n_audio_ctx)
        operands = {}
        for part in ("keys", "values"):
            operands[part] = Input((*rows, heads.channels), plan.cross_kv_dtype)
            if plan.cross_kv_dtype == "int8":
                operands[f"{part}_scales"] = Input(rows)
        memory.append(operands)
    return memory


def _caches(heads: Sequence[Heads], texts: Dim, length: int) -> dict[str, Input]:
    """Returns the KV cache of each self-attention: [texts, heads, length, channels of a head], keys before values."""
    return {
        f"self_{part}.{i}": Input((texts, number, length, channels), state=True)
        for i, (number, channels) in enumerate(heads)
        for part in ("keys", "values")
    }


def _context(inputs: Mapping[str, Input], memory: Memory, logits_from: Value | None = None) -> DecoderContext:
    caches = [value for name, value in inputs.items() if name.startswith("self_")]
    pairs: list[KeysValues] = list(zip(caches[::2], caches[1::2], strict=True))
    return DecoderContext(inputs["position"], iter(pairs), iter(memory), logits_from)


def _self_heads(spec: Spec) -> list[Heads]:
    """Returns the heads of each self-attention of the decoder, in order."""
    return [_heads_of(node, node.layer.heads) for node in spec.decoder.walk() if node.layer.self_attention]  # type: ignore[attr-defined]


def _cross_heads(spec: Spec) -> list[Heads]:
    """Returns the heads of each cross-attention of the decoder, in order."""
    return [_heads_of(node, node.layer.heads) for node in spec.decoder.walk() if isinstance(node.layer, CrossAttention)]


def _heads_of(node: LayerNode, number: int) -> Heads:
    """Returns the heads of an attention, given their number."""
    return Heads(number, node.input_shape.channels // number)


def _rules(inputs: Mapping[str, Input]) -> tuple[Input, Input, Input]:
    return inputs["mask"], inputs["allowed"], inputs["noise"]


def _aligned_layers(plan: BuildPlan) -> list[int]:
    return sorted({layer for layer, _ in plan.alignment_heads})


register(
    "whisper",
    {
        "encoder": {
            "encoder": GraphRecipe(encoder, exposed=True, timed=True),
            "cross_kv": GraphRecipe(cross_kv, timed=True),
        },
        "decoder": {
            "decoder": GraphRecipe(decoder, exposed=True),
            "step": GraphRecipe(step, timed=True),
            "alignment": GraphRecipe(alignment),
        },
    },
)
