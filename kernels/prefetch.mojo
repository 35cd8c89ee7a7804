"""Prefetches of numbers that are read in one stream, from first to last."""

from std.sys.intrinsics import PrefetchOptions, prefetch

comptime PREFETCH_DISTANCE = 6144
"""Bytes from what is read to what is prefetched: what can be on its way from memory to a core; 2048 was slower."""
comptime CACHE_LINE = 64
"""Bytes that a prefetch brings."""


@always_inline
def prefetch_ahead[dtype: DType](at: Pointer[Scalar[dtype], ...]):
    """Asks for the cache line that is PREFETCH_DISTANCE bytes behind `at`."""
    prefetch[PrefetchOptions().for_read().high_locality().to_data_cache()](
        at.unsafe_bitcast[UInt8]().unsafe_offset(PREFETCH_DISTANCE)
    )
