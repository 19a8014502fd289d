"""The toy world: what a clip may show, where everything is at each moment, how it is drawn, said and read back."""
