"""`--help` never reaches Hydra: the host's parser for `--local_rank` answers it, with nothing but `--local_rank`.

It does so twice: while the host is imported (there `quiet_import` hides the option) and in `init_trainer` (here).
"""

FAULT = "--help is eaten by the parser of --local_rank (common/environment/argparse_utils.py)"


def present() -> bool:
    import inspect

    from super_gradients.common.environment import argparse_utils

    return "add_help=False" not in inspect.getsource(argparse_utils.pop_arg)


def repair() -> None:
    import sys

    from super_gradients.common.environment import argparse_utils

    from sg_resnets.compat.patching import wrap_function

    def make(original):
        def pop_local_rank():
            return original() if any(arg.startswith("--local_rank") for arg in sys.argv) else -1

        return pop_local_rank

    wrap_function(argparse_utils, "pop_local_rank", make)
