"""compare.py TESSERA FORWARD: each network, random weights: its tokens there and here, and what may not be imported."""
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

# First: it mends torchvision, which timm wants.
from networks import (fc_norm, features, hidden, pooled, shake, torchvision, torchvision_swin, torchvision_tokens,
                      with_mean)

import timm
import transformers

TOLERANCE = 1e-5
program, forward = sys.argv[1:]
failed = 0


def run(*words):
    return subprocess.run(words, capture_output=True, text=True)


def report(name, good, text):
    global failed
    failed += not good
    print(f"{'ok' if good else 'FAILED'}: {name}: {text}", flush=True)


def blocks_of(model):
    """Transformer blocks in order; those of a Swin lie in stages."""
    for path in ['blocks', 'layers', 'encoder.layer', 'encoder.layers', 'features']:
        try:
            stages = list(model.get_submodule(path).children())
        except AttributeError:
            continue
        if path == 'features': # torchvision: stages are sequences, between them is the merging of patches
            return [block for stage in stages[1::2] for block in stage]
        if hasattr(stages[0], 'blocks'):
            return [block for stage in stages for block in stage.blocks]
        return stages
    raise ValueError('no blocks')


def compare(name, model, tokens_of, *flags, save=None, size=224, registers=0, swin=False):
    if not hasattr(model, 'shaken'): # twice would make it amplify rounding
        shake(model)
        model.shaken = True
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    wanted = {}

    def keep(key):
        def hook(module, inputs, output):
            x = output[0] if isinstance(output, tuple) else output
            if swin:
                x = with_mean(x)
            wanted[key] = torch.cat([x[:, :1], x[:, 1 + registers:]], dim=1) # registers are in no output here
        return hook
    hooks = [block.register_forward_hook(keep(f'block.{i}')) for i, block in enumerate(blocks_of(model))]
    # In f64, where the library's own rounding is none: what is measured is ours.
    model.double()
    with torch.no_grad():
        keep('tokens')(None, None, tokens_of(images.double()))
    model.float()
    for hook in hooks:
        hook.remove()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        save_file({'images': images}, folder / 'images.safetensors')
        file = folder / 'model.pth'
        if save is None:
            torch.save(model.state_dict(), file)
        else:
            file = folder / save(folder)
        made = run(program, 'import', file, '--out', folder / 'x.tsr', *flags)
        done = run(forward, folder / 'x.tsr', folder / 'images.safetensors', folder / 'tokens.safetensors')
        if made.returncode != 0 or done.returncode != 0:
            return report(name, False, made.stderr + done.stderr)
        got = load_file(folder / 'tokens.safetensors')
    summary = next(line for line in made.stdout.splitlines() if line.startswith(('vit: ', 'swin: ')))
    if got.keys() != wanted.keys():
        return report(name, False, f'{sorted(got)} instead of {sorted(wanted)}')
    error = 0.0
    for key, tensor in wanted.items():
        scale = tensor.abs().clamp(min=1) if key == 'tokens' else max(1.0, tensor.abs().max().item())
        error = max(error, ((got[key] - tensor).abs() / scale).max().item())
    shape = tuple(wanted['tokens'].shape)
    report(name, error <= TOLERANCE, f'{len(got)} times {shape}, largest difference {error:.1e}; {summary}')


def refuse(name, model, words):
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), folder + '/model.pth')
        made = run(program, 'import', folder + '/model.pth', '--out', folder + '/x.tsr', '--allow', 'unused,missing')
    lines = made.stderr.strip().splitlines()
    report(name, made.returncode == 1 and len(lines) == 1 and words in lines[0], made.stderr.strip())


def pretrained(model):
    """The names of files, which are not those of state_dict() since transformers 5."""
    def save(folder):
        model.save_pretrained(folder)
        return 'model.safetensors'
    return save


def dinov2_names(model):
    """timm's network in the words of facebookresearch/dinov2."""
    words = {'reg_token': 'register_tokens', '.mlp.fc1.': '.mlp.w12.', '.mlp.fc2.': '.mlp.w3.'}

    def save(folder):
        state = {'mask_token': torch.zeros(1, model.embed_dim)}
        for name, t in model.state_dict().items():
            for theirs, authors in words.items():
                name = name.replace(theirs, authors)
            if name == 'pos_embed': # timm has none for the class token
                t = torch.cat([torch.zeros_like(t[:, :1]), t], dim=1)
            state[name] = t
        torch.save(state, folder / 'x.pth')
        return 'x.pth'
    return save


def beit_names(model):
    """timm's network as BEiT's authors save it: with the rows of the table for each two tokens."""
    def save(folder):
        state = dict(model.state_dict())
        for i, block in enumerate(model.blocks):
            state[f'blocks.{i}.attn.relative_position_index'] = block.attn.relative_position_index
        torch.save({'model': state}, folder / 'x.pth')
        return 'x.pth'
    return save


def swin_names(model):
    """timm's network as Swin's authors save it: merging ends a stage, and masks and indices are there."""
    def save(folder):
        state = {}
        for name, t in model.state_dict().items():
            state[re.sub(r'layers\.(\d)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', name)] = t
        for i, stage in enumerate(model.layers):
            for j, block in enumerate(stage.blocks):
                state[f'layers.{i}.blocks.{j}.attn.relative_position_index'] = block.attn.relative_position_index
                if block.attn_mask is not None:
                    state[f'layers.{i}.blocks.{j}.attn_mask'] = block.attn_mask
        torch.save({'model': state, 'epoch': 300}, folder / 'x.pth')
        return 'x.pth'
    return save


UNUSED = ['--allow', 'unused']
for name in ['vit_tiny_patch16_224', 'vit_small_patch16_224', 'deit_small_patch16_224', 'vit_small_patch32_224',
             'vit_small_patch14_dinov2', 'deit3_small_patch16_224']:
    model = timm.create_model(name, **({'img_size': 224} if 'dinov2' in name else {}))
    compare(f'timm {name}', model, features(model), *UNUSED)
small = dict(hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=500)
model = transformers.ViTModel(transformers.ViTConfig(**small))
compare('transformers ViTModel', model, hidden(model), *UNUSED)
compare('transformers ViTModel, saved', model, hidden(model), *UNUSED, save=pretrained(model))
model = transformers.Dinov2Model(transformers.Dinov2Config(
    hidden_size=192, num_hidden_layers=4, num_attention_heads=3, image_size=224))
compare('transformers Dinov2Model', model, hidden(model))
compare('transformers Dinov2Model, saved', model, hidden(model), save=pretrained(model))
registers = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(
    hidden_size=192, num_hidden_layers=4, num_attention_heads=3, image_size=224, num_register_tokens=4))
compare('transformers Dinov2WithRegistersModel', registers, hidden(registers), registers=4)
compare('transformers Dinov2WithRegistersModel, saved, another size', registers, hidden(registers), registers=4,
        save=pretrained(registers), size=160)
gated = transformers.Dinov2Model(transformers.Dinov2Config(
    hidden_size=192, num_hidden_layers=4, num_attention_heads=3, image_size=224, use_swiglu_ffn=True))
compare('transformers Dinov2Model, SwiGLU', gated, hidden(gated))
compare('transformers Dinov2Model, SwiGLU, saved, another size', gated, hidden(gated), save=pretrained(gated), size=160)
for name in ['vit_small_patch14_reg4_dinov2', 'vit_giant_patch14_reg4_dinov2']:
    model = timm.create_model(name, img_size=224, embed_dim=384, num_heads=6, depth=3, num_classes=0)
    compare(f'timm {name}', model, features(model), registers=4)
model = timm.create_model(name, img_size=224, embed_dim=384, num_heads=6, depth=3, num_classes=0)
compare('the authors\' DINOv2 names', model, features(model), registers=4, save=dinov2_names(model))
model = transformers.BeitModel(transformers.BeitConfig(
    use_absolute_position_embeddings=True, use_mean_pooling=False, **small))
compare('transformers BeitModel', model, hidden(model), *UNUSED)
compare('transformers BeitModel, saved', model, hidden(model), *UNUSED, save=pretrained(model))
beit = dict(small, use_relative_position_bias=True, image_size=224)
model = transformers.BeitModel(transformers.BeitConfig(**beit))
compare('transformers BeitModel, relative positions', model, pooled(model))
compare('transformers BeitModel, relative positions, saved', model, pooled(model), save=pretrained(model))
compare('transformers BeitModel, relative positions, another size', model, pooled(model), size=160)
model = transformers.BeitModel(transformers.BeitConfig(
    **small, use_shared_relative_position_bias=True, use_mean_pooling=False))
compare('transformers BeitModel, shared relative positions', model, hidden(model))
compare('transformers BeitModel, shared relative positions, saved', model, hidden(model), save=pretrained(model))
model = timm.create_model('beit_base_patch16_224', embed_dim=192, num_heads=3, depth=4)
compare('timm beit_base_patch16_224', model, fc_norm(model), *UNUSED)
compare('the authors\' BEiT names', model, fc_norm(model), *UNUSED, save=beit_names(model))
model = timm.create_model('swin_tiny_patch4_window7_224')
swin = lambda images: model.forward_features(images)
compare('timm swin_tiny_patch4_window7_224', model, swin, *UNUSED, swin=True)
compare('the authors\' Swin names', model, swin, *UNUSED, swin=True, save=swin_names(model))
stages = dict(depths=[2, 2, 2, 2], embed_dim=48, num_heads=[1, 2, 4, 8], num_labels=0)
model = transformers.SwinModel(transformers.SwinConfig(**stages))
compare('transformers SwinModel', model, hidden(model), swin=True)
compare('transformers SwinModel, saved', model, hidden(model), swin=True, save=pretrained(model))
model = torchvision.models.swin_t()
compare('torchvision swin_t', model, torchvision_swin(model), *UNUSED, swin=True)
model = torchvision.models.vit_b_16()
compare('torchvision vit_b_16', model, torchvision_tokens(model), *UNUSED)

refuse('distillation', timm.create_model('deit_tiny_distilled_patch16_224', depth=1), 'a distillation token')
refuse('relative positions', timm.create_model('vit_relpos_small_patch16_224', depth=1), 'relative position biases')
refuse('Swin V2', timm.create_model('swinv2_tiny_window8_256'), 'cosine attention')
refuse('CLIP', timm.create_model('vit_base_patch16_clip_224', depth=1), 'a norm before its first block')
refuse('EVA', timm.create_model('eva02_tiny_patch14_224', depth=1), 'the first MLP has weights')
refuse('ResNet', torchvision.models.resnet18(), 'no network that is known in the file')
sys.exit(failed > 0)
