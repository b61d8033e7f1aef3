"""How exactly faces are found."""
