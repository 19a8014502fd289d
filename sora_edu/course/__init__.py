"""What only the lessons use: grading, pictures, interactives, and a folder for each lesson."""
