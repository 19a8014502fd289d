"""How fast we are against what a reader would use instead; ``run`` is the place to begin."""
