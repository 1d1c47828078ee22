"""Lets Hydra find our recipes beside the host's, which come first."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from sg_resnets import host
from sg_resnets.paths import recipes_path


class SgResnetsSearchPath(SearchPathPlugin):
    """Adds the recipes to the host's applications, and to no other Hydra application."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if host.is_imported():
            search_path.append(provider="sg-resnets", path=recipes_path().as_uri())
        if host.is_complete():  # half-imported, it composes recipes of its own: too early for ours
            host.activate()
