"""The interactive of lesson 01: a ball that is thrown."""

from dataclasses import replace

import ipywidgets
import torch

from sora_edu.config import WorldConfig
from sora_edu.course.lesson_01.figures import show_motion
from sora_edu.course.plotting import Picture
from sora_edu.course.widgets import Interactive, interactive
from sora_edu.world.paths import TICKS, tick_times
from sora_edu.world.render import render
from sora_edu.world.scenes import make_state
from sora_edu.world.vocabulary import COLOURS


def throw_ball(*, frames: int = 17) -> Interactive:
    """Sliders for gravity and sideways speed and a menu of colours; the clip's strip, its path, and its steps."""

    def draw(gravity: float, speed: float, colour: str) -> Picture:
        ticks = tick_times(frames)
        centre = torch.stack((16 + speed * (ticks - TICKS / 2), 5 + gravity * ticks**2 / 2), -1)
        clip = WorldConfig(frames=frames)
        state = make_state(clip, colour=colour, size="small", motion="still")
        state = replace(state, centre=torch.stack((centre, torch.zeros_like(centre)))[None])
        title = f"a {colour} circle, g = {gravity:.2f}, speed = {speed:.2f}".replace("a orange", "an orange")
        return show_motion(render(state, clip)[0], centre, title)

    def slider(value: float, low: float, high: float, step: float) -> ipywidgets.FloatSlider:
        return ipywidgets.FloatSlider(value=value, min=low, max=high, step=step, continuous_update=False)

    return interactive(
        draw,
        gravity=slider(0.16, -0.2, 0.3, 0.02),
        speed=slider(1.2, -1.5, 1.5, 0.1),
        colour=ipywidgets.Dropdown(options=COLOURS, value="orange"),
    )
