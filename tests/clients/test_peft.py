"""LoRA by peft: trained, saved, loaded and merged."""

import pytest
import torch
from conftest import CAPTIONS
from transformers import AutoModel

from modeling_miniclip import MiniCLIPModel

peft = pytest.importorskip("peft")


@pytest.fixture
def inputs(tiny_processor):
    torch.manual_seed(0)
    return {**tiny_processor(text=CAPTIONS, return_tensors="pt"), "pixel_values": torch.randn(4, 3, 32, 32)}


@pytest.mark.parametrize("modules", ["all-linear", ["q_lin", "v_lin", "conv2"]])
def test_lora(tiny_folder, inputs, tmp_path, modules):
    model = AutoModel.from_pretrained(tiny_folder, trust_remote_code=True)
    untouched = {name: value.clone() for name, value in model.state_dict().items()}
    lora = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=modules))
    trainable = [parameter for parameter in lora.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2)
    losses = []
    for _ in range(3):
        loss = lora(**inputs, return_loss=True).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    lora.eval().save_pretrained(tmp_path / "adapter")
    expected = lora(**inputs).logits_per_image
    loaded = peft.PeftModel.from_pretrained(
        AutoModel.from_pretrained(tiny_folder, trust_remote_code=True), tmp_path / "adapter"
    )
    torch.testing.assert_close(loaded(**inputs).logits_per_image, expected)
    merged = loaded.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits_per_image, expected, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    plain = MiniCLIPModel.from_pretrained(tmp_path / "merged")
    assert plain.state_dict().keys() == untouched.keys()
    torch.testing.assert_close(plain(**inputs).logits_per_image, expected, atol=1e-4, rtol=1e-4)
