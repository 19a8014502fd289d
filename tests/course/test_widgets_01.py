"""The sliders of lesson 01 change the thrown ball."""

from sora_edu.course.lesson_01 import widgets


def test_gravity_and_speed_change_the_thrown_ball():
    view = widgets.throw_ball(frames=5)
    gravity, speed, colour, area = view.widget.children
    assert (gravity.value, speed.value, colour.value) == (0.16, 1.2, "orange") and area.outputs
    assert "g = 0.16, speed = 1.20" in view.static.get_suptitle() and view.static.get_suptitle().startswith("an orange")
    down = view.static.axes[-1].lines[1].get_ydata()
    assert abs(down[-1] - down[0] - 0.16 * 4 * 12) < 1e-4  # frames are 4 ticks apart
