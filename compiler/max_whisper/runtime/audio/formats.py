"""Lists the containers and codecs that are read, and those that are decoded in this process.

FFmpeg knows some 350 containers and 210 audio codecs, most of them of games and devices of the nineties, and damaged
files of some kinds end the process that reads them. So FFmpeg is told to open only what people use today. The names are
FFmpeg's.
"""

from __future__ import annotations

PCM = frozenset(
    "pcm_alaw pcm_mulaw pcm_s8 pcm_u8 pcm_s16le pcm_s16be pcm_u16le pcm_u16be pcm_s24le pcm_s24be pcm_u24le pcm_u24be "
    "pcm_s32le pcm_s32be pcm_u32le pcm_u32be pcm_s64le pcm_s64be pcm_f32le pcm_f32be pcm_f64le pcm_f64be "
    "pcm_bluray pcm_dvd".split()
)
"""The codecs of uncompressed sound."""
CODECS = PCM | frozenset(
    "aac aac_latm ac3 alac amrnb amrwb dca eac3 flac gsm gsm_ms mlp mp1 mp1float mp2 mp2float mp3 mp3float nellymoser "
    "opus speex truehd vorbis wavpack wmalossless wmapro wmav1 wmav2 wmavoice "
    "adpcm_ima_qt adpcm_ima_wav adpcm_ms adpcm_swf g722 g726".split()
)
"""Every codec that is decoded."""
CONTAINERS = frozenset(
    "aac ac3 aiff amr asf au avi caf dts dtshd eac3 flac flv gsm matroska,webm mlp mov,mp4,m4a,3gp,3g2,mj2 mp3 mpeg "
    "mpegts ogg truehd w64 wav wv".split()
)
"""Every container that is opened."""
COMMON = {
    "wav": frozenset("pcm_u8 pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw".split()),
    "flac": frozenset({"flac"}),
    "mp3": frozenset({"mp3float"}),
    "ogg": frozenset({"flac", "opus", "vorbis"}),
    "aac": frozenset({"aac"}),
    "mov,mp4,m4a,3gp,3g2,mj2": frozenset({"aac", "alac"}),
    "matroska,webm": frozenset({"aac", "flac", "mp3float", "opus", "vorbis"}),
}
"""The codecs of each container that are decoded in this process. 10,000 damaged files of each pair were tried, and none
ended the process, or took a second or much memory (`tests/fuzz/test_fuzz_audio.py` tries more). Everything else is
decoded in a child process."""
COMMON_CODECS = frozenset[str]().union(*COMMON.values())
"""Every codec that is decoded in this process."""

HINT = "wav, flac, mp3, m4a, ogg, mp4 or mkv"
"""The formats that messages recommend."""
