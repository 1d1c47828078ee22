"""Commands in a process that has imported SuperGradients already: each is forked from one that did, and costs a second
where a fresh interpreter costs six. For what is about the start itself there is `run_python`."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["super_gradients.training", "sg_resnets.host.installed", "sg_resnets.cli"])


def run(args, cwd, env, timeout=300):
    """What `subprocess.run([sys.executable, *args])` returns; `args` begin with -m and a module, or with a script."""
    child, out, err = start(args, cwd, env)
    child.join(timeout)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise subprocess.TimeoutExpired(args, timeout, err.read_text())
    done = subprocess.CompletedProcess(args, child.exitcode, out.read_text(), err.read_text())
    out.unlink(), err.unlink()
    return done


def start(args, cwd, env):
    """The process, and the files that it prints into."""
    out, err = (Path(cwd, f".{os.getpid()}.{name}") for name in ("stdout", "stderr"))
    out.write_text(""), err.write_text("")
    child = _context.Process(target=_become, args=([str(arg) for arg in args], str(cwd), env, out, err))
    child.start()
    return child, out, err


def _become(args, cwd, env, out, err):
    import torch

    multiprocessing.set_start_method(None, force=True)  # loaders start their workers as in any other process
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS", torch.get_num_threads())))
    module = args[0] == "-m"
    sys.argv = args[module:]
    sys.path.insert(0, cwd if module else str(Path(args[0]).parent))
    try:
        if module:
            runpy.run_module(args[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(args[0], run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # a forked process ends without them
