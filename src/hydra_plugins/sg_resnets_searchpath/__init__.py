"""Lets Hydra find our recipes beside SuperGradients', which come first."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from sg_resnets.host import activation
from sg_resnets.utils.paths import recipes_path


class SgResnetsSearchPath(SearchPathPlugin):
    """Adds the recipes to SuperGradients' applications, and to no other Hydra application."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add our folder, and activate."""
        if activation.is_imported():
            search_path.append(provider="sg-resnets", path=recipes_path().as_uri())
        if activation.is_complete():  # half-imported, it composes recipes of its own: too early for ours
            activation.activate()
