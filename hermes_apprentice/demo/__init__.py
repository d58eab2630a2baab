"""The whole loop on generated requests, with the real Hermes and a simulated upstream."""
