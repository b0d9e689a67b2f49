"""export.py TESSERA: networks with random weights, exported, give in onnxruntime and in PyTorch's libraries what they give here."""
import gzip
import json
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
    return state, checkpoint


def check_libraries(state, checkpoint, depth, heads, folder):
    import timm
    import transformers
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = torch_forward(state, images, depth, heads)
    out = folder / 'hf' / 'model.safetensors'
    out.parent.mkdir()
    for names, kind in (('huggingface-vit', transformers.ViTModel), ('huggingface-dinov2', transformers.Dinov2Model)):
        run(program, 'export', checkpoint, '--format', 'safetensors', '--names', names, '--out', out)
        config = json.loads((out.parent / 'config.json').read_text())
        model = kind.from_pretrained(out.parent).eval()
        with torch.no_grad():
            report(f"transformers' {config['model_type']}", difference(model(images).last_hidden_state, wanted))
    run(program, 'export', checkpoint, '--format', 'pth', '--names', 'timm', '--out', folder / 'timm.pth')
    model = timm.create_model('vit_tiny_patch16_224', num_classes=0)
    model.load_state_dict(torch.load(folder / 'timm.pth', weights_only=True))
    with torch.no_grad():
        report('timm', difference(model.eval().forward_features(images), wanted))


for network in (('ViT-Ti', 192, 12, 3), ('ViT-S', 384, 12, 6)):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        made = check(*network, folder)
        if network[0] == 'ViT-Ti' and '--onnx-only' not in sys.argv:
            check_libraries(*made, network[2], network[3], folder)
sys.exit(failed > 0)
