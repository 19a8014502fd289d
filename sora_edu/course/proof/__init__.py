"""What ``course.proving`` tries the checks with, and how it watches them."""
