"""Noise and the way back: schedules, paths, losses, samplers, guidance."""
