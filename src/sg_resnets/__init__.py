"""Residual networks for SuperGradients.

Importing this package repairs the host and registers our models, data sets and callbacks in it, as soon as the host is
imported: now, if it is imported already. The import itself is light: neither torch nor the host is loaded by it.
"""

from sg_resnets import host

__version__ = "0.1.0"

host.watch()
