"""Transcribes archives: many recordings in many processes, in runs that may be killed and go on where they were."""
