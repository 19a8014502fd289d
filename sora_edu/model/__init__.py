"""The networks, from patches to the video diffusion transformer, and what they cost."""
