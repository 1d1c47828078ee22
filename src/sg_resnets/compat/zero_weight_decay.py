"""`zero_weight_decay_on_bias_and_bn` knows biases by their name, `bias`, and batch-norm's weights. Other scalars and
factors of a channel (Fixup's biases, ReZero's and LayerScale's factors) decay, which pulls branches to zero."""

FAULT = "zero_weight_decay_on_bias_and_bn: scalars and factors of other names decay (optimizer_utils)"


def present() -> bool:
    import inspect

    from super_gradients.training.utils import optimizer_utils

    return "numel" not in inspect.getsource(optimizer_utils._get_no_decay_param_ids)


def repair() -> None:
    from super_gradients.training.utils import optimizer_utils

    from sg_resnets.compat.patching import wrap_function

    def with_scalars_and_factors(original):
        def _get_no_decay_param_ids(module):
            few = [id(p) for p in module.parameters() if p.ndim < 2 or p[0].numel() == 1]
            return list(dict.fromkeys([*original(module), *few]))

        return _get_no_decay_param_ids

    wrap_function(optimizer_utils, "_get_no_decay_param_ids", with_scalars_and_factors)
