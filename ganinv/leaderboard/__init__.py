"""The leaderboard: every method on the same images, before judges that no method was trained with."""
