"""Lets Hydra find our recipes beside SuperGradients', which come first."""

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class SgResnetsSearchPath(SearchPathPlugin):
    """Adds the recipes to SuperGradients' applications, and to no other Hydra application."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add our folder, and activate, if SuperGradients is there and whole: while it is imported it composes recipes
        of its own, too early for ours, and for our package, which would not see it become whole."""
        if not hasattr(sys.modules.get("super_gradients"), "__all__"):
            return
        from sg_resnets.host import activation
        from sg_resnets.utils.paths import recipes_path

        search_path.append(
            provider="sg-resnets", path=f"file://{recipes_path()}"
        )  # as_uri() writes %20, which Hydra takes as it is
        activation.activate()
