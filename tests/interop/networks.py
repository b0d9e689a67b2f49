"""Networks of timm, transformers and torchvision, and what their tokens are."""
import importlib.util
import pathlib
import re
import sys

import torch


def declare_operators():
    """A torchvision that was built for CUDA cannot load its operators beside a torch without it, and then cannot be
    imported. None of them is used here: that they have names is enough."""
    source = pathlib.Path(importlib.util.find_spec('torchvision').origin).parent / '_meta_registrations.py'
    names = re.findall(r'torchvision::(\w+)|register_meta\("(\w+)"', source.read_text())
    library = torch.library.Library('torchvision', 'DEF')
    for name in {a or b for a, b in names}:
        library.define(f'{name}(Tensor x) -> Tensor')
    return library


try:
    import torchvision
except RuntimeError:
    for name in [name for name in sys.modules if name.startswith('torchvision')]:
        del sys.modules[name]
    operators = declare_operators()
    import torchvision


def shake(model):
    """Weights that make every parameter matter: biases, norms and LayerScale too."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def rows(x):
    """Tokens of a map [B, H, W, C] in rows."""
    return x.flatten(1, 2) if x.ndim == 4 else x


def with_mean(x):
    """What stands for a class token in a Swin."""
    return torch.cat([rows(x).mean(1, keepdim=True), rows(x)], dim=1)


def features(model):
    return lambda images: model.forward_features(images)


def hidden(model):
    return lambda images: model(images).last_hidden_state


def pooled(model):
    """transformers' BEiT with mean pooling: its pooler has the last norm, and is what the class token becomes."""
    def tokens(images):
        out = model(images, interpolate_pos_encoding=True)
        return torch.cat([out.pooler_output[:, None], out.last_hidden_state[:, 1:]], dim=1)
    return tokens


def fc_norm(model):
    """timm's BEiT: the norm is behind the pooling."""
    def tokens(images):
        x = model.forward_features(images)
        return torch.cat([model.forward_head(x, pre_logits=True)[:, None], x[:, 1:]], dim=1)
    return tokens


def torchvision_swin(model):
    return lambda images: model.norm(model.features(images))


def torchvision_tokens(model):
    def tokens(images):
        x = model._process_input(images)
        return model.encoder(torch.cat([model.class_token.expand(len(x), -1, -1), x], dim=1))
    return tokens
