"""The import of SuperGradients is noisy: it copies the console to ~/sg_logs, prints of packages it does not need,
reports its own unmeetable pins as failures, and installs a crash handler that turns Hydra's short errors into
tracebacks.

super_gradients 3.7.1, `common/auto_logging`, `sanity_check`, `common/crash_handler`; seen as
'The console stream is logged into /home/.../sg_logs/console.log' and
'Failed to verify installed packages: sphinx required but not found'.
"""

import atexit
import io
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from types import ModuleType


@contextmanager
def quiet_import() -> Iterator[None]:
    """No console redirection, no false alarms, nothing in the home folder while SuperGradients is imported.

    Where SUPER_GRADIENTS_LOG_DIR is set, SuperGradients copies the console there as always; CRASH_HANDLER is kept too.
    """
    level = os.environ.get("CONSOLE_LOG_LEVEL", "INFO").upper()
    ours = {"CRASH_HANDLER": "FALSE", "CONSOLE_LOG_LEVEL": "ERROR"}  # it reports its unmeetable pins at WARNING
    with ExitStack() as stack:
        if "SUPER_GRADIENTS_LOG_DIR" not in os.environ:
            # It opens a log file with its first logger, and moves it to the run's folder when training starts.
            folder = tempfile.mkdtemp(prefix="super_gradients_")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            ours["SUPER_GRADIENTS_LOG_DIR"] = folder
            sys.modules[_CONSOLE_SINK] = _console_left_alone()
            stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
        # It parses --local_rank while it is imported, and would answer --help by itself.
        help_options = [arg for arg in sys.argv if arg in ("-h", "--help")]
        sys.argv[:] = [arg for arg in sys.argv if arg not in help_options]
        before = dict(os.environ)
        os.environ.update({**ours, **{k: v for k, v in before.items() if k == "CRASH_HANDLER"}})
        try:
            yield
        finally:
            sys.argv += help_options
            for name in ours:
                os.environ.pop(name, None)
            os.environ.update(before)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream:
            handler.stream.seek(0)
            handler.stream.truncate()  # the run's log starts with the run
        else:
            handler.setLevel(level)


_CONSOLE_SINK = "super_gradients.common.auto_logging.console_logging"


def _console_left_alone() -> ModuleType:
    """Stands in for the module that copies stdout and stderr to ~/sg_logs."""

    class ConsoleSink:
        set_location = flush = get_filename = staticmethod(lambda *_, **__: None)

    module = ModuleType(_CONSOLE_SINK)
    module.ConsoleSink = ConsoleSink  # type: ignore[attr-defined]
    return module
