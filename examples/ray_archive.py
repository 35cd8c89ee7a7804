"""Transcribe a folder of recordings on a Ray cluster, and write the results as Parquet.

python examples/ray_archive.py artifacts/tiny recordings results
"""

import os
import sys
from pathlib import Path

import ray
from max_whisper.ray import Transcriber


def main(model: str, folder: str, out: str) -> None:
    paths = sorted(str(path.resolve()) for path in Path(folder).rglob("*.*"))
    recordings = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=-(-len(paths) // 16))
    texts = recordings.map_batches(
        Transcriber,
        fn_constructor_kwargs={"model": str(Path(model).resolve())},  # actors have other working directories
        compute=ray.data.ActorPoolStrategy(size=max(1, int(ray.cluster_resources()["CPU"]) // 2)),
        num_cpus=2,  # the cores of an actor
        batch_size=16,
    )
    texts.write_parquet(str(Path(out).resolve()))


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports how it is used unless it is told not to
    ray.init()
    main(*sys.argv[1:])
