"""Text to vectors: the embedder, its graph, and the content-addressed model store."""
