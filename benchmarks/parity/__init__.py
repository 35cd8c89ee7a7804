"""max-whisper beside the reference implementations: do they give the same numbers, tokens and times?"""
