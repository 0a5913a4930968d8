"""Pictures of training and of networks, drawn with matplotlib, which is in the extra ``experiments``.

Every function returns a ``Figure`` to save or to show, and leaves the global state of pyplot alone; ``network`` returns
a ``Drawing``, which is a figure or the text of an SVG file. The colours are those of Okabe and Ito, which colour-blind
people can distinguish.
"""

from fnnet.plots.comparison import line_panels, radar_charts
from fnnet.plots.descent import descent_paths
from fnnet.plots.landscape import Landscape, landscape_contours, landscape_surface, round_numbers
from fnnet.plots.look import COLORS, SMALL, WIDTH, style, tidy
from fnnet.plots.network import Drawing, network
from fnnet.plots.training import activation_histograms, filter_grid, image_grid, training_curves

__all__ = [
    "COLORS",
    "SMALL",
    "WIDTH",
    "Drawing",
    "Landscape",
    "activation_histograms",
    "descent_paths",
    "filter_grid",
    "image_grid",
    "landscape_contours",
    "landscape_surface",
    "line_panels",
    "network",
    "radar_charts",
    "round_numbers",
    "style",
    "tidy",
    "training_curves",
]
