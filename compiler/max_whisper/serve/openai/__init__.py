"""OpenAI's REST API for speech to text: `/v1/models`, `/v1/audio/transcriptions`, `/v1/audio/translations`."""
