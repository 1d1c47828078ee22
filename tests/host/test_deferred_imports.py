"""What SuperGradients imports and most runs never use waits until it is used."""

HEAVY = ["seaborn", "pandas", "scipy.stats", "onnxsim", "matplotlib.pyplot", "data_gradients", "jinja2"]
ASK = f"import super_gradients, sys\nassert not [name for name in {HEAVY} if name in sys.modules]\n"
AFTERWARDS = """
import matplotlib, matplotlib.pyplot as plt, data_gradients, onnxsim
assert all(module.__file__ for module in (plt, data_gradients, onnxsim)) and matplotlib.pyplot is plt
from super_gradients.common.sg_loggers import base_sg_logger as host
assert host.plt.figure is plt.figure
"""


def test_they_are_not_imported_and_afterwards_they_are_as_ever(run_python, tmp_path):
    done = run_python("-c", ASK + AFTERWARDS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


FUNCTION = """
from super_gradients.training.models.conversion import simplify
from onnx import helper
ends = [helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
node = helper.make_node("Identity", ["a"], ["b"])
assert simplify(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])))[1]
"""
MODULE = """
from super_gradients.common.sg_loggers.base_sg_logger import plt
figure = plt.figure()
from matplotlib.figure import Figure
assert isinstance(figure, Figure)
"""
CLASS = """
from super_gradients.training.utils.collate_fn.adapters.base_adapter_collate_fn import BaseDatasetAdapter
class Mine(BaseDatasetAdapter): pass
from data_gradients.dataset_adapters.base_adapter import BaseDatasetAdapter as real
assert issubclass(Mine, real) and issubclass(Mine, BaseDatasetAdapter)
assert isinstance(object.__new__(real), BaseDatasetAdapter) and not isinstance(1, BaseDatasetAdapter)
"""
ATTRIBUTE = """
from super_gradients.training.utils.collate_fn.adapters import classification_adapter_collate_fn as module
assert callable(module.ClassificationDatasetAdapter.from_cache)
"""


def test_they_are_when_they_are_used(run_python, tmp_path):
    done = run_python("-c", "import super_gradients\n" + FUNCTION + ATTRIBUTE + CLASS + MODULE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_a_program_has_imported_itself_is_what_super_gradients_gets(run_python, tmp_path):
    done = run_python(
        "-c",
        "import matplotlib.pyplot as mine, super_gradients\n"
        "from super_gradients.common.sg_loggers import base_sg_logger as host\n"
        "assert host.plt is mine\n",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
