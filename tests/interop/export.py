"""export.py TESSERA: networks with random weights, exported, give in onnxruntime and in PyTorch's libraries what they give here
and what they gave where they came from. --onnx-only: without timm, transformers and torchvision."""
import gzip
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import torch
from PIL import Image
from safetensors.torch import load_file

if '--onnx-only' not in sys.argv:
    # First: it mends torchvision, which timm wants.
    from networks import fc_norm, features, hidden, pooled, shake, torchvision, torchvision_swin, with_mean

    import timm
    import transformers

TOLERANCE = 1e-5
program = sys.argv[1]
failed = 0


def run(*words):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f'{" ".join(map(str, words))}: {done.stderr}')


def report(name, error):
    global failed
    good = error <= TOLERANCE
    failed += not good
    print(f"{'ok' if good else 'FAILED'}: {name}: largest difference {error:.1e}", flush=True)


def difference(got, wanted):
    got, wanted = torch.as_tensor(got), torch.as_tensor(wanted)
    if got.shape != wanted.shape:
        return float('inf')
    return ((got - wanted).abs() / wanted.abs().clamp(min=1)).max().item()


def random_vit(dim, depth, size=224, patch=16):
    """The authors' names; weights as large as trained ones."""
    g = torch.Generator().manual_seed(0)

    def draw(*shape, scale=0.05, shift=0.0):
        return shift + scale * torch.randn(*shape, generator=g)

    def norm(name):
        return {name + '.weight': draw(dim, scale=0.2, shift=1.0), name + '.bias': draw(dim)}

    def linear(name, out, size_in):
        return {name + '.weight': draw(out, size_in), name + '.bias': draw(out)}

    state = {'cls_token': draw(1, 1, dim), 'pos_embed': draw(1, 1 + (size // patch)**2, dim),
             'patch_embed.proj.weight': draw(dim, 3, patch, patch), 'patch_embed.proj.bias': draw(dim)}
    for i in range(depth):
        block = f'blocks.{i}.'
        state |= norm(block + 'norm1') | linear(block + 'attn.qkv', 3 * dim, dim)
        state |= linear(block + 'attn.proj', dim, dim) | norm(block + 'norm2')
        state |= linear(block + 'mlp.fc1', 4 * dim, dim) | linear(block + 'mlp.fc2', dim, 4 * dim)
    return state | norm('norm')


def write_pictures(folder, n):
    """An IDX set of grey pictures, and what the network gets of them, by Pillow."""
    pixels = numpy.random.default_rng(0).integers(0, 256, (n, 28, 28), numpy.uint8)
    folder.mkdir()
    with gzip.open(folder / 'train-images-idx3-ubyte.gz', 'wb') as f:
        f.write(struct.pack('>IIII', 0x803, n, 28, 28) + pixels.tobytes())
    with gzip.open(folder / 'train-labels-idx1-ubyte.gz', 'wb') as f:
        f.write(struct.pack('>II', 0x801, n) + bytes(n))
    return [Image.fromarray(p).convert('RGB') for p in pixels]


def preprocess(pictures, model):
    said = {p.key.removeprefix('preprocessing.'): p.value for p in model.metadata_props}
    size, short = int(said['image_size']), int(said['resize_short_side'])
    mean, std = (numpy.array(said[k].split(), numpy.float32) for k in ('mean', 'std'))
    batch = []
    for picture in pictures:
        picture = picture.resize((short, short), Image.Resampling[said['interpolation'].upper()])
        edge = (short - size) // 2
        x = numpy.asarray(picture.crop((edge, edge, edge + size, edge + size)), numpy.float32) / 255
        batch.append(((x - mean) / std).transpose(2, 0, 1))
    return numpy.stack(batch).astype(numpy.float32)


def infer(file, images):
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    return session.run(None, {'images': images})[0]


def torch_forward(state, images, depth, heads):
    """Tokens by PyTorch's own functions; the position embedding as the authors fit it."""
    f = torch.nn.functional
    x = f.conv2d(images, state['patch_embed.proj.weight'], state['patch_embed.proj.bias'], stride=16)
    h, w = x.shape[2:]
    x = x.flatten(2).transpose(1, 2)
    dim = x.shape[-1]
    position = state['pos_embed']
    side = int((position.shape[1] - 1)**0.5)
    if (h, w) != (side, side):
        grid = position[:, 1:].reshape(1, side, side, dim).permute(0, 3, 1, 2)
        grid = f.interpolate(grid, scale_factor=((h + 0.1) / side, (w + 0.1) / side), mode='bicubic')
        position = torch.cat([position[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)
    x = torch.cat([state['cls_token'].expand(len(x), -1, -1), x], 1) + position

    def norm(name, y):
        return f.layer_norm(y, (dim,), state[name + '.weight'], state[name + '.bias'], 1e-6)

    def linear(name, y):
        return f.linear(y, state[name + '.weight'], state[name + '.bias'])

    for i in range(depth):
        b = f'blocks.{i}.'
        q, k, v = linear(b + 'attn.qkv', norm(b + 'norm1', x)).reshape(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
        y = f.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + linear(b + 'attn.proj', y)
        x = x + linear(b + 'mlp.fc2', f.gelu(linear(b + 'mlp.fc1', norm(b + 'norm2', x))))
    return norm('norm', x)


def check(name, dim, depth, heads, folder):
    state = random_vit(dim, depth)
    torch.save(state, folder / 'in.pth')
    checkpoint, graph = folder / 'x.tsr', folder / 'x.onnx'
    run(program, 'import', folder / 'in.pth', '--out', checkpoint, '--heads', heads)

    pictures = write_pictures(folder / 'pictures', 3)
    run(program, 'features', checkpoint, '--data', folder / 'pictures', '--out', folder / 'features.safetensors')
    features = load_file(folder / 'features.safetensors')['features']
    run(program, 'export', checkpoint, '--format', 'onnx', '--out', graph)
    model = onnx.load(graph)
    onnx.checker.check_model(model, full_check=True)
    images = preprocess(pictures, model)
    for n in (1, 3):
        report(f'{name}, class, batch {n}, against tessera features', difference(infer(graph, images[:n]), features[:n]))

    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = torch_forward(state, images, depth, heads)
    run(program, 'export', checkpoint, '--format', 'onnx', '--output', 'tokens', '--external-data', '--out', graph)
    report(f'{name}, tokens, weights beside', difference(infer(graph, images.numpy()), wanted))

    run(program, 'export', checkpoint, '--format', 'onnx', '--output', 'attention', '--out', graph)
    attention = torch.as_tensor(infer(graph, images.numpy()))
    report(f'{name}, attention {tuple(attention.shape)}, sums', difference(attention.sum(-1), torch.ones(attention.shape[:-1])))

    run(program, 'export', checkpoint, '--format', 'onnx', '--output', 'tokens', '--dynamic-size', '--out', graph)
    for h, w in ((160, 272), (320, 240)):
        images = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            wanted = torch_forward(state, images, depth, heads)
        report(f'{name}, tokens of {h} x {w}', difference(infer(graph, images.numpy()), wanted))

    for form in ('pth', 'safetensors'):
        out = folder / f'out.{form}'
        run(program, 'export', checkpoint, '--format', form, '--out', out)
        got = torch.load(out, weights_only=True) if form == 'pth' else load_file(out)
        same = got.keys() == state.keys() and all(torch.equal(got[k], state[k]) for k in state)
        report(f'{name}, {form}', 0.0 if same else float('inf'))


def same_state(got, wanted):
    """Tensors of the same names have the same bits; wanted has more: classifiers, which are not imported."""
    return got.keys() <= wanted.keys() and all(torch.equal(got[k], wanted[k]) for k in got)


def check_network(name, model, tokens_of, names, make, folder, swin=False, size=224):
    """A network of theirs: imported, exported again under its names, and as ONNX."""
    shake(model)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = tokens_of(model)(images)
        if swin:
            wanted = with_mean(wanted)
    folder.mkdir()
    torch.save(model.state_dict(), folder / 'in.pth')
    run(program, 'import', folder / 'in.pth', '--allow', 'unused', '--out', folder / 'x.tsr')
    run(program, 'export', folder / 'x.tsr', '--format', 'onnx', '--output', 'tokens', '--out', folder / 'x.onnx')
    report(f'{name}, ONNX', difference(infer(folder / 'x.onnx', images.numpy()), wanted))
    if make is None: # from_pretrained() finds the class by config.json
        run(program, 'export', folder / 'x.tsr', '--format', 'safetensors', '--names', names, '--out',
            folder / 'model.safetensors')
        back = type(model).from_pretrained(folder)
    else:
        run(program, 'export', folder / 'x.tsr', '--format', 'pth', '--names', names, '--out', folder / 'out.pth')
        state = torch.load(folder / 'out.pth', weights_only=True)
        back = make()
        loaded = back.load_state_dict(state, strict=False)
        whole = not loaded.unexpected_keys and all(k.startswith('head') for k in loaded.missing_keys)
        report(f'{name}, names of {names}', 0.0 if whole else float('inf'))
    back.eval()
    imported = {k: v for k, v in back.state_dict().items() if not k.startswith(('head', 'pooler.dense'))}
    report(f'{name}, round trip', 0.0 if same_state(imported, model.state_dict()) else float('inf'))
    with torch.no_grad():
        got = tokens_of(back)(images)
    report(f'{name}, {names}', difference(with_mean(got) if swin else got, wanted))


def check_any_size(name, model, tokens_of, registers, folder):
    """Where pictures have another size than the network was made for, the graph fits its positions as the library does."""
    shake(model)
    folder.mkdir()
    torch.save(model.state_dict(), folder / 'in.pth')
    run(program, 'import', folder / 'in.pth', '--out', folder / 'x.tsr')
    run(program, 'export', folder / 'x.tsr', '--format', 'onnx', '--output', 'tokens', '--dynamic-size', '--out',
        folder / 'x.onnx')
    for h, w in ((112, 280), (224, 224), (322, 168)):
        images = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            x = tokens_of(model)(images)
        wanted = torch.cat([x[:, :1], x[:, 1 + registers:]], dim=1) # registers are in no output here
        report(f'{name}, tokens of {h} x {w}', difference(infer(folder / 'x.onnx', images.numpy()), wanted))


def check_libraries(folder):
    small = dict(hidden_size=192, num_hidden_layers=2, num_attention_heads=3, intermediate_size=500)
    dino = dict(hidden_size=192, num_hidden_layers=2, num_attention_heads=3, image_size=224)

    def no_registers(model):
        def tokens(images):
            x = hidden(model)(images)
            return torch.cat([x[:, :1], x[:, 5:]], dim=1)
        return tokens

    def timm_network(name, **options):
        return lambda: timm.create_model(name, **options)

    cases = [
        ('timm ViT-Ti', timm_network('vit_tiny_patch16_224'), features, 'ibot', True, False),
        ('timm DeiT III', timm_network('deit3_small_patch16_224', depth=2), features, 'timm', True, False),
        ('timm BEiT', timm_network('beit_base_patch16_224', embed_dim=192, num_heads=3, depth=2), fc_norm, 'beit', True,
         False),
        ('timm Swin-T', timm_network('swin_tiny_patch4_window7_224'), features, 'timm-swin', True, True),
        ('torchvision Swin-T', torchvision.models.swin_t, torchvision_swin, 'torchvision-swin', True, True),
        ('transformers ViT', lambda: transformers.ViTModel(transformers.ViTConfig(**small), add_pooling_layer=False),
         hidden, 'huggingface-vit', False, False),
        ('transformers DINOv2', lambda: transformers.Dinov2Model(transformers.Dinov2Config(**dino)), hidden,
         'huggingface-dinov2', False, False),
        ('transformers DINOv2 with registers', lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(num_register_tokens=4, **dino)), no_registers,
         'huggingface-dinov2', False, False),
        ('transformers BEiT', lambda: transformers.BeitModel(transformers.BeitConfig(
            use_relative_position_bias=True, **small)), pooled, 'huggingface-beit', False, False),
        ('transformers BEiT, shared', lambda: transformers.BeitModel(transformers.BeitConfig(
            use_shared_relative_position_bias=True, use_mean_pooling=False, **small)), hidden, 'huggingface-beit', False,
         False),
        ('transformers Swin', lambda: transformers.SwinModel(transformers.SwinConfig(
            depths=[2, 2, 2, 2], embed_dim=48, num_heads=[1, 2, 4, 8])), hidden, 'huggingface-swin', False, True),
    ]
    for i, (name, make, tokens_of, names, by_state, swin) in enumerate(cases):
        check_network(name, make(), tokens_of, names, make if by_state else None, folder / str(i), swin)
    check_any_size('timm DINOv2 with registers', timm.create_model(
        'vit_small_patch14_reg4_dinov2', depth=2, img_size=224, dynamic_img_size=True), features, 4, folder / 'timm')
    check_any_size('transformers DINOv2 with registers', transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(num_register_tokens=4, **dino)), hidden, 4, folder / 'registers')
    check_any_size('transformers DINOv2', transformers.Dinov2Model(transformers.Dinov2Config(**dino)), hidden, 0,
                   folder / 'dinov2')


for network in (('ViT-Ti', 192, 12, 3), ('ViT-S', 384, 12, 6)):
    with tempfile.TemporaryDirectory() as temporary:
        check(*network, pathlib.Path(temporary))
if '--onnx-only' not in sys.argv:
    with tempfile.TemporaryDirectory() as temporary:
        check_libraries(pathlib.Path(temporary))
sys.exit(failed > 0)
