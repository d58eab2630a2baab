"""The sidecar: an OpenAI-compatible endpoint in front of specialists and upstream."""
