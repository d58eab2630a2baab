"""The only road from an exchange to a training example."""
