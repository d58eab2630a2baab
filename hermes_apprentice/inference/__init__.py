"""The forward pass of the CPU kinds, shared by trainer and serving so that both see the same."""
