"""Tables of invented words and phrases from which the demo's texts are put together."""
