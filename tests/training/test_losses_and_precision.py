"""Binary cross-entropy, and the number format that mixed precision means."""

import pytest
import torch

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
