"""What an experiment must show for its claim to hold. Accuracies and shares are in 0..1."""

from collections.abc import Mapping

WORSE, NO_WORSE = 0.02, 0.01  # points of training accuracy: several times the spread over seeds of a net that trains
ORDERS_OF_MAGNITUDE = 20.0  # between the plain net's ratio of gradients and the residual net's
VANISHED = 0.1  # the first block's gradient over the last one's
SAME_LOGITS = 1e-5  # float32's rounding through 27 blocks
LITTLE, NEARLY_ALL = 0.10, 0.40  # of the accuracy, lost with one block


def degradation(gap: Mapping[str, float]) -> bool:
    """`gap`: training accuracy of the deeper net less that of the shallower, of "plain" and of "resnet"."""
    return gap["plain"] <= -WORSE and gap["resnet"] >= -NO_WORSE


def gradients(of_weights: Mapping[str, float], of_outputs: Mapping[str, float]) -> bool:
    """First block's gradient over the last one's, by kind of network: of the weights and of the outputs."""
    plain, residual = "plain, batch-norm", "residual, batch-norm"
    return (
        of_weights[plain] >= ORDERS_OF_MAGNITUDE * of_weights[residual]
        and of_outputs[plain] >= ORDERS_OF_MAGNITUDE * of_outputs[residual]
        and of_outputs["plain, no norm"] < VANISHED
    )


def shattered(autocorrelation: Mapping[str, float]) -> bool:
    """Autocorrelation of the gradient of neighbouring inputs, by network."""
    return autocorrelation["plain-56"] < min(autocorrelation["resnet-56"], autocorrelation["plain-8"])


def identity(branch_over_shortcut: Mapping[str, float], logit_difference: float) -> bool:
    """Median size of what a branch adds over what flows past it, by network, and by how much the logits of a net differ
    that was made deeper by blocks of zero branch."""
    return branch_over_shortcut["resnet56"] < branch_over_shortcut["resnet20"] < 1 and logit_difference < SAME_LOGITS


def lesion(lost: Mapping[str, float]) -> bool:
    """Test accuracy lost with one block, the mean over the blocks, by network."""
    return lost["resnet56"] < LITTLE and lost["resnet20"] < lost["plain20"] / 2 and lost["plain20"] > NEARLY_ALL


def landscape(bent: Mapping[str, float]) -> bool:
    """Share of the places where the loss bends downwards, by network."""
    return bent["resnet-56"] < bent["plain-56"] / 2


def shortcuts(accuracy: Mapping[str, float]) -> bool:
    """Test accuracy by what is done to the shortcut; "original" leaves it alone."""
    return all(value <= accuracy["original"] for value in accuracy.values())
