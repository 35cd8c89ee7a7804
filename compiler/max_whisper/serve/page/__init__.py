"""The page at `/`: its files, and what it asks the server for besides OpenAI's API."""
