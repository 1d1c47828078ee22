"""Residual networks for SuperGradients.

Importing this package repairs SuperGradients and registers our models, data sets and callbacks in it, as soon as it is
imported: now, if it is imported already. The import itself is light: neither torch nor SuperGradients is loaded by it.
"""

from sg_resnets.host import activation

__version__ = "0.1.0"

activation.watch()
