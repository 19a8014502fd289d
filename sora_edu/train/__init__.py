"""Training: the loop, what it keeps on disk, several processes, the whole recipe, and a few-step student."""
