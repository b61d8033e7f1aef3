"""The leaderboard: every method on the same images, measured by judges that no method was trained with."""
