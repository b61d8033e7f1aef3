"""Published checkpoints of encoders: what a file is, networks of its shape, its weights in them."""
