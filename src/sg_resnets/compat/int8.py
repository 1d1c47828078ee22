"""The host's INT8 path installs `pytorch_quantization` with pip at run time, from a server that no longer has it; where
it ran, its graphs were slower than float32. `sg_resnets.quantization` takes its place behind the same entry point."""

FAULT = "ptq and qat pip-install a package that is gone (import_pytorch_quantization_or_install), and fail"


def present() -> bool:
    import inspect

    from super_gradients import Trainer

    return "import_pytorch_quantization_or_install" in inspect.getsource(Trainer.ptq)


def repair() -> None:
    from sg_resnets.quantization.trainer import extend_trainer_with_int8

    extend_trainer_with_int8()
