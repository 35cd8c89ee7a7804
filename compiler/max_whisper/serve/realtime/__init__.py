"""OpenAI's Realtime transcription sessions: sound comes by a WebSocket, its text goes back meanwhile."""
