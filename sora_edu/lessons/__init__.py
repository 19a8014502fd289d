"""What is behind the lessons: checks of their exercises, their figures, and the measurements that they quote.

``checks_NN``, ``figures_NN`` and ``widgets_NN`` belong to lesson NN. ``runs_10``, ``measures_09`` and
``measures_student`` make the records in data/lessons, and ``samples`` makes README's moving picture; each says in its
first lines how to make them again. What the lessons teach is not here but in the package around this folder.
"""
