"""Makes the .pth files beside it, with PyTorch 2.13: python3 tests/golden/make_pth.py tests/golden"""
import argparse
import collections
import sys
import zipfile

import torch

folder = sys.argv[1]
base = torch.arange(24, dtype=torch.float32)
types = {
    'f16': torch.tensor([0.0, -1.5, 65504.0, 2.0**-24, float('inf')], dtype=torch.float16),
    'bf16': torch.tensor([1.0, -0.5, 3.140625], dtype=torch.bfloat16),
    'f32': torch.tensor([[-1.0, -0.75, -0.5], [-0.25, 0.0, 0.25]]),
    'f64': torch.tensor([1.0 / 3, -2.5e300], dtype=torch.float64),
    'i8': torch.tensor([-128, 127, 5], dtype=torch.int8),
    'i16': torch.tensor([-32768, 32767], dtype=torch.int16),
    'i32': torch.tensor([7, -8], dtype=torch.int32),
    'i64': torch.tensor([[-2**62]], dtype=torch.int64),
    'u8': torch.tensor([0, 255, 3], dtype=torch.uint8),
    'bool': torch.tensor([True, False, True]),
    'scalar': torch.tensor(2.25),
    'empty': torch.empty(0, 4),
}
views = collections.OrderedDict(
    all=base, tail=base[20:], matrix=base.view(2, 3, 4).permute(2, 0, 1), column=base.view(4, 6)[:, 2],
    parameter=torch.nn.Parameter(base[:2]))
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
model(torch.ones(1, 2)).sum().backward()
optimizer.step()
with torch.no_grad():
    model.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    model.bias.copy_(torch.tensor([5.0, 6.0]))
content = {
    'types': types, 'views': views, 'model': model.state_dict(), 'optimizer': optimizer.state_dict(),
    'list': [torch.ones(1), (torch.zeros(1), 'text')], 'epoch': 3, 'loss': 0.5, 'none': None, 'yes': True,
    'args': argparse.Namespace(lr=0.1, arch='vit_small', betas=(0.9, 0.95)), 'big': 2**100, 'size': torch.ones(2, 3).shape,
}
torch.save(content, folder + '/torch_zip.pth')
torch.save(content, folder + '/torch_legacy.pth', _use_new_zipfile_serialization=False)
torch.save({'weight': base}, folder + '/torch_big_endian.pth')
with zipfile.ZipFile(folder + '/torch_big_endian.pth') as old:
    entries = [(i.filename, old.read(i)) for i in old.infolist()]
with zipfile.ZipFile(folder + '/torch_big_endian.pth', 'w') as new:
    for name, data in entries:
        new.writestr(zipfile.ZipInfo(name), b'big' if name.endswith('/byteorder') else data)


class Network(torch.nn.Module):
    """The parameters of a ViT of dim 8, depth 1, patch 4, 8 pixels, under timm's and the authors' names."""

    def __init__(self):
        super().__init__()
        block = torch.nn.Module()
        block.norm1, block.norm2 = torch.nn.LayerNorm(8), torch.nn.LayerNorm(8)
        block.attn, block.mlp, self.patch_embed = torch.nn.Module(), torch.nn.Module(), torch.nn.Module()
        block.attn.qkv, block.attn.proj = torch.nn.Linear(8, 24), torch.nn.Linear(8, 8)
        block.mlp.fc1, block.mlp.fc2 = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)
        self.cls_token = torch.nn.Parameter(torch.randn(1, 1, 8))
        self.pos_embed = torch.nn.Parameter(torch.randn(1, 5, 8))
        self.patch_embed.proj = torch.nn.Conv2d(3, 8, 4, 4)
        self.blocks, self.norm = torch.nn.ModuleList([block]), torch.nn.LayerNorm(8)


# As a run of the authors' iBOT leaves it.
torch.manual_seed(0)
network = Network().half().state_dict()
torch.save({
    'student': {'module.backbone.' + name: t for name, t in network.items()},
    'teacher': {'backbone.' + name: t for name, t in network.items()} | {'head.mlp.weight': torch.ones(2)},
    'epoch': 3, 'args': argparse.Namespace(arch='vit_small'),
}, folder + '/torch_vit.pth')
