"""Weight files as wholes: published ones by name, what is in one, into a store and out of it."""
