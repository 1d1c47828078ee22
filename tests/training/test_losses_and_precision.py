"""Binary cross-entropy, and the number format that mixed precision means."""

import pytest
import torch
from torch.nn import functional as F

from sg_resnets.utils.errors import SgResnetsError


def test_binary_cross_entropy_asks_one_question_for_each_class():
    from sg_resnets.training.losses import BinaryCrossEntropy

    logits, labels = torch.randn(4, 3), torch.tensor([0, 2, 1, 2])
    p = torch.sigmoid(logits)
    yes = torch.eye(3)[labels]
    expected = -(yes * p.log() + (1 - yes) * (1 - p).log()).mean()
    torch.testing.assert_close(BinaryCrossEntropy()(logits, labels), expected)
    torch.testing.assert_close(BinaryCrossEntropy()(logits, yes), expected)
    mixed = torch.tensor([[0.7, 0.3, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.0]])
    both = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    torch.testing.assert_close(BinaryCrossEntropy(threshold=0.2)(logits, mixed), BinaryCrossEntropy()(logits, both))
    smoothed = 0.9 * yes + 0.1 / 3
    torch.testing.assert_close(
        BinaryCrossEntropy(smoothing=0.1)(logits, labels), BinaryCrossEntropy()(logits, smoothed)
    )
    with pytest.raises(SgResnetsError, match=r"smoothing=1\.5"):
        BinaryCrossEntropy(smoothing=1.5)
    for wrong in ({"smoothing": "abc"}, {"smoothing": 1}, {"threshold": 1.0}, {"threshold": "high"}):
        with pytest.raises(SgResnetsError, match=f"BinaryCrossEntropy: {next(iter(wrong))}=.*a number >= 0 and < 1"):
            BinaryCrossEntropy(**wrong)


@pytest.mark.parametrize(
    ("device", "has", "forced", "dtype"),
    [
        ("cpu", (), None, None),
        ("cpu", ("amx_tile",), None, torch.bfloat16),
        ("cpu", ("avx512_bf16",), None, torch.bfloat16),
        ("cpu", (), "bf16", torch.bfloat16),
        ("cuda:0", ("cuda",), None, torch.bfloat16),
        ("cuda:0", (), None, torch.float16),
        ("cuda:0", ("cuda",), "float16", torch.float16),
    ],
)
def test_mixed_precision_is_what_the_hardware_computes_in(monkeypatch, device, has, forced, dtype):
    from sg_resnets.training.precision import mixed_dtype

    for feature in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, f"_is_{feature}_supported", lambda feature=feature: feature in has)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: "cuda" in has)
    assert mixed_dtype(device, forced) is dtype


@pytest.mark.parametrize("mixed", [False, True])
def test_weights_of_classes_are_those_of_images_in_a_mean(mixed):
    """As `nn.CrossEntropyLoss` has it: the sum of w L over the sum of w, w that of an image's class."""
    from sg_resnets.training.losses import BinaryCrossEntropy

    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 1, 2])
    target = torch.lerp(F.one_hot(labels, 3).float(), torch.full((6, 3), 1 / 3), 0.2) if mixed else labels
    weight = [1.0, 2.0, 5.0]
    shares = target if mixed else F.one_hot(labels, 3).float()
    of_images = [sum(share * w for share, w in zip(row.tolist(), weight, strict=True)) for row in shares]
    losses = [BinaryCrossEntropy()(logits[i : i + 1], target[i : i + 1]).item() for i in range(6)]
    expected = sum(w * loss for w, loss in zip(of_images, losses, strict=True)) / sum(of_images)
    assert BinaryCrossEntropy(weight=weight)(logits, target).item() == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(
        BinaryCrossEntropy(weight=[2.0] * 3)(logits, target), BinaryCrossEntropy()(logits, target)
    )


def _macro_f1(labels, predictions):
    """As scikit-learn's f1_score(average="macro") says: over the classes that are in either."""
    values = []
    for k in sorted({*labels, *predictions}):
        right = sum(a == b == k for a, b in zip(labels, predictions, strict=True))
        values.append(2 * right / (labels.count(k) + predictions.count(k)))
    return sum(values) / len(values)


def test_macro_f1_is_the_mean_over_the_classes_that_there_are():
    from sg_resnets.training.metrics import MacroF1

    torch.manual_seed(0)
    metric = MacroF1()
    outputs, labels = torch.randn(4, 10, 6), torch.randint(0, 5, (4, 10))
    outputs[..., 5] = -9  # a class that is neither a label nor predicted
    for batch, target in zip(outputs, labels, strict=True):
        metric.update(batch, target)
    expected = _macro_f1(labels.flatten().tolist(), outputs.argmax(2).flatten().tolist())
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)
    metric.reset()
    metric.update(outputs[0], F.one_hot(labels[0], 6) * 0.9)  # mixed labels
    expected = _macro_f1(labels[0].tolist(), outputs[0].argmax(1).tolist())
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)


def test_wrong_weights_of_classes_are_one_line():
    from sg_resnets.training.losses import BinaryCrossEntropy

    for wrong in ("balanced", [1.0, -1.0, 1.0], [1.0, float("nan"), 1.0], 3, {"cat": 2}):
        with pytest.raises(SgResnetsError, match="must be a list of numbers >= 0, one for each class"):
            BinaryCrossEntropy(weight=wrong)
    with pytest.raises(SgResnetsError, match="weight has 2 numbers, and the network 3 classes"):
        BinaryCrossEntropy(weight=[1.0, 2.0])(torch.zeros(4, 3), torch.tensor([0, 1, 1, 0]))
