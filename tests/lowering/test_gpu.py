"""What a build for a GPU relies on, as far as it can be tested without one."""

from __future__ import annotations

import platform
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from max.driver import CPU, Buffer
from max_whisper import Model, load_spec
from max_whisper.artifact import load
from max_whisper.artifact.target import PORTABLE_CPUS, host_cpu, parse_target
from max_whisper.compile.modules import cache_folder
from max_whisper.compile.mojo_packages import kernels_package
from max_whisper.lowering.lower import lower
from max_whisper.runtime.decoding.decoder import Decoder
from support.artifacts import plan_of


def devices_of_weights(device: str) -> dict[str, str]:
    """Returns where the graphs for a device expect each weight: "cpu" or "gpu"."""
    spec = load_spec("nano")
    plan = plan_of(spec, kernels="ours" if device == "cpu" else "max", device=device)
    package = kernels_package(cache_folder())
    texts = [lower(spec, plan, module, kernels=package).module._to_mlir_str() for module in ("encoder", "decoder")]
    return dict(
        re.findall(r'mo\.constant\.external \[name = "([^"]+)",.*?device = #M\.device_ref<"(\w+)"', "\n".join(texts))
    )


class Placed:
    """Stands for a `Buffer`: remembers the device that it was put on."""

    def __init__(self, where: str = "cpu") -> None:
        self.where = where

    @classmethod
    def from_numpy(cls, array: np.ndarray) -> Placed:
        return cls()

    def view(self, dtype: Any) -> Placed:
        return self

    def to(self, device: Any) -> Placed:
        return Placed(device.label)


@pytest.mark.parametrize(("label", "device"), [("cpu", "cpu"), ("gpu", "cuda")])
def test_weights_are_loaded_to_where_the_graphs_expect_them(
    label: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MAX does not check it: a graph would read the host's memory as if it were the GPU's."""
    monkeypatch.setattr(load, "Buffer", Placed)
    loaded_to = SimpleNamespace(label=label, is_host=label == "cpu")
    placed = {load._to_device(np.zeros(1, dtype), loaded_to).where for dtype in (np.float32, np.uint16)}  # type: ignore[arg-type]
    expected = devices_of_weights(device)
    assert set(expected) == {tensor.name for tensor in load_spec("nano").tensors()}
    assert {*expected.values()} == placed == {label}


class OnDevice:
    """Stands for a `Buffer` in a GPU's memory, of which reading an element ends the process."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.copies = array, 0

    def to(self, device: Any) -> Buffer:
        assert device.is_host
        self.copies += 1
        return Buffer.from_numpy(self.array)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_step_is_read_by_one_copy(rows: int) -> None:
    column = OnDevice(np.array([[5], [6], [7]][:rows], np.int64))
    decoder = SimpleNamespace(_on_host=False, _host=CPU())
    assert Decoder.read(decoder, column, rows) == [5, 6, 7][:rows]  # type: ignore[arg-type]
    assert column.copies == 1


def test_masks_stay_on_the_device(model: Model) -> None:
    decoder = Decoder(model._artifact)
    first = decoder.mask([1, 2])
    assert decoder.mask((1, 2)) is first is not decoder.mask([1])
    assert np.flatnonzero(np.isneginf(first.to_numpy())).tolist() == [1, 2]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="for x86-64")
def test_the_host_code_of_a_gpu_build_runs_on_other_machines() -> None:
    """The machine with the GPU is seldom the one that builds."""
    target = parse_target("cuda:sm_90a")
    assert host_cpu(target) == "x86-64-v3" and target.features == PORTABLE_CPUS["x86-64-v3"].split()
    assert host_cpu(parse_target("cpu")) is None
    assert host_cpu(parse_target("cpu:x86-64-v2")) == "x86-64-v2"
