"""The generator: synthesis and opening files."""
