"""How well directions fit, what they change, what they cost."""
