#!/usr/bin/env python3
"""The same work in Tessera and in PyTorch (or onnxruntime), in turn, on the CPU.

    python3 tests/bench/compare_pytorch.py BUILD [WORK ...] [--rounds N] [--threads N] [--cpu]

BUILD is a build directory with tests enabled. Needs torch; torchvision with Pillow for `crops`; onnx and onnxruntime for
the works named after it. Each round runs the work once here and once there; printed are both medians, the median of the
rounds' ratios, and peak memory.
"""
import argparse
import copy
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F


# ---- ViT, as timm and the iBOT authors have it, with PyTorch's fused attention ----


class Block(nn.Module):
    def __init__(self, dim, heads, drop_path):
        super().__init__()
        self.heads, self.drop_path = heads, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def drop(self, x):
        if self.drop_path == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_path
        return x / keep * (torch.rand(x.shape[0], 1, 1) + keep).floor()

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.drop(self.proj(y))
        return x + self.drop(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    def __init__(self, dim, depth, heads, drop_path=0.0, classes=0):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 16, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 197, dim) * 0.02)
        self.masked_embed = nn.Parameter(torch.zeros(1, dim))
        self.blocks = nn.ModuleList(
            Block(dim, heads, drop_path * i / max(depth - 1, 1)) for i in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes) if classes else None

    def positions(self, h, w):
        if (h, w) == (14, 14):
            return self.pos_embed
        patch = self.pos_embed[:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
        scale = ((h + 0.1) / 14, (w + 0.1) / 14)
        patch = F.interpolate(patch, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], patch.flatten(2).transpose(1, 2)], 1)

    def forward(self, images, mask=None):
        x = self.patch_embed(images)
        h, w = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        if mask is not None:
            x = torch.where(mask.flatten(1)[..., None], self.masked_embed.to(x.dtype), x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1).to(x.dtype), x], 1) + self.positions(h, w)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x if self.head is None else self.head(x[:, 0])


SIZES = {"s": (384, 12, 6), "b": (768, 12, 12)}


def decay_groups(module):
    named = list(module.named_parameters())
    plain = [p for n, p in named if p.ndim == 1 or n.endswith(".bias")]
    decayed = [p for n, p in named if not (p.ndim == 1 or n.endswith(".bias"))]
    return [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]


def supervised(size, batch, bf16=False, compiled=False):
    model = ViT(*SIZES[size], classes=1000)
    optimizer = torch.optim.AdamW(decay_groups(model), lr=1e-4)
    images, labels = torch.randn(batch, 3, 224, 224), torch.zeros(batch, dtype=torch.long)
    forward = torch.compile(model) if compiled else model

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = forward(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run


def inference(batch):
    model, images = ViT(*SIZES["s"]).eval(), torch.randn(batch, 3, 224, 224)

    def run():
        with torch.inference_mode():
            model(images)[:, 0]

    return run


def onnxruntime_inference(batch):
    import onnxruntime

    class ClassToken(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = ViT(*SIZES["s"])

        def forward(self, images):
            return self.vit(images)[:, 0]

    options, file = onnxruntime.SessionOptions(), io.BytesIO()
    options.intra_op_num_threads = torch.get_num_threads()
    images = torch.randn(batch, 3, 224, 224)
    with torch.inference_mode():
        torch.onnx.export(ClassToken().eval(), (images,), file, input_names=["images"], dynamo=False)
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"images": images.numpy()}
    return lambda: session.run(None, feed)


# ---- iBOT as its authors wrote it: head on every token of every crop, dense patch loss ----


class Head(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2048), nn.GELU(), nn.Linear(2048, 2048), nn.GELU(), nn.Linear(2048, 256)
        )
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(256, out, bias=False))

    def forward(self, x):
        return self.last(F.normalize(self.mlp(x), dim=-1))


class Network(nn.Module):
    def __init__(self, drop_path):
        super().__init__()
        self.backbone, self.head = ViT(*SIZES["s"], drop_path=drop_path), Head(384, 8192)

    def forward(self, images, mask=None):
        logits = self.head(self.backbone(images, mask))
        return logits[:, 0], logits[:, 1:]


def ibot(batch, bf16=False):
    student, teacher = Network(0.1), Network(0.0)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    optimizer = torch.optim.AdamW(decay_groups(student), lr=1e-4)
    center, center2 = torch.zeros(1, 8192), torch.zeros(1, 1, 8192)
    images, local = torch.randn(2 * batch, 3, 224, 224), torch.randn(10 * batch, 3, 96, 96)
    mask = torch.zeros(2 * batch, 14, 14, dtype=torch.bool)
    mask.view(2 * batch, -1)[::2, :59] = True

    def run():
        nonlocal center, center2
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                t_cls, t_patch = (logits.float() for logits in teacher(images))
            s_cls, s_patch = (logits.float() for logits in student(images, mask))
            l_cls = student(local)[0].float()
        views = torch.cat([s_cls, l_cls]).div(0.1).chunk(12)
        targets = ((t_cls - center) / 0.04).softmax(-1).chunk(2)
        patch_targets = ((t_patch - center2) / 0.04).softmax(-1).chunk(2)
        patches, masks = s_patch.div(0.1).chunk(2), mask.flatten(1).float().chunk(2)
        cls = patch = 0.0
        for q in range(2):
            for v in range(12):
                if v == q:
                    m = masks[q]
                    each = -(patch_targets[q] * patches[q].log_softmax(-1)).sum(-1)
                    patch = patch + ((each * m).sum(-1) / m.sum(-1).clamp(min=1.0)).mean() / 2
                else:
                    cls = cls - (targets[q] * views[v].log_softmax(-1)).sum(-1).mean() / 22
        (cls + patch).backward()
        for p in student.parameters():
            if p.grad is not None:
                p.grad.mul_((3.0 / (p.grad.norm() + 1e-6)).clamp(max=1.0))
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for t, s in zip(teacher.parameters(), student.parameters()):
                t.mul_(0.996).add_(s, alpha=0.004)
            center = 0.9 * center + 0.1 * t_cls.mean(0, keepdim=True)
            center2 = 0.9 * center2 + 0.1 * t_patch.mean(1).mean(0, keepdim=True)

    return run


# ---- the rest ----


def small_ops():
    leaf = torch.ones(16, requires_grad=True)

    def run():
        x = leaf
        for _ in range(500000):
            x = (x + leaf) * leaf
        x.sum().backward()
        leaf.grad = None

    return run


def update():
    model = ViT(*SIZES["b"], classes=1000)
    teacher = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(decay_groups(model), lr=1e-4, fused=True)
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e-3)

    def run():
        with torch.no_grad():
            parameters = list(model.parameters())
            for p in parameters:
                p.grad.mul_((3.0 / (p.grad.norm() + 1e-6)).clamp(max=1.0))
            optimizer.step()
            torch._foreach_lerp_(list(teacher.parameters()), parameters, 0.004)

    return run


def crops(folder):
    from PIL import Image, ImageFilter, ImageOps

    try:
        from torchvision import transforms as T
    except RuntimeError:
        # torchvision's compiled operators may not fit a CPU build of torch. Transforms need none of them, but
        # importing it wants these names to be known.
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision import transforms as T

    class Blur:
        def __init__(self, p):
            self.p = p

        def __call__(self, image):
            if torch.rand(()) >= self.p:
                return image
            return image.filter(ImageFilter.GaussianBlur(float(torch.empty(()).uniform_(0.1, 2.0))))

    class Solarize:
        def __call__(self, image):
            return ImageOps.solarize(image) if torch.rand(()) < 0.2 else image

    def pipeline(size, scale, *extra):
        return T.Compose(
            [
                T.RandomResizedCrop(size, scale=scale, interpolation=T.InterpolationMode.BICUBIC),
                T.RandomHorizontalFlip(),
                T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
                T.RandomGrayscale(p=0.2),
                *extra,
                T.ToTensor(),
                T.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    first = pipeline(224, (0.25, 1.0), Blur(1.0))
    second = pipeline(224, (0.25, 1.0), Blur(0.1), Solarize())
    small = pipeline(96, (0.05, 0.25), Blur(0.5))
    files = sorted(Path(folder).glob("*.jpg"))

    def run():
        for file in files:
            image = Image.open(file).convert("RGB")
            [first(image), second(image)] + [small(image) for _ in range(10)]

    return run


def write_photographs(folder, n=32):
    """Pictures with the spectrum of photographs: noise summed over scales."""
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    for i in range(n):
        x = torch.zeros(1, 3, 375, 500)
        for k in range(9):
            grid = torch.randn(1, 3, 2 + 3 * 2**k // 4, 2 + 2**k, generator=generator) / (k + 1)
            x += F.interpolate(grid, size=(375, 500), mode="bicubic")
        pixels = (x[0].permute(1, 2, 0) * 40 + 128).clamp(0, 255).byte().numpy()
        Image.fromarray(pixels).save(f"{folder}/{i:02}.jpg", quality=90)


WORKS = {
    "vit-s-train": ("ViT-S/16 supervised step, batch 16, f32", lambda _: supervised("s", 16)),
    "vit-b-train": ("ViT-B/16 supervised step, batch 8, f32", lambda _: supervised("b", 8)),
    "vit-s-train-bf16": (
        "ViT-S/16 supervised step, batch 16, bf16",
        lambda _: supervised("s", 16, bf16=True),
    ),
    "vit-b-train-bf16": (
        "ViT-B/16 supervised step, batch 8, bf16",
        lambda _: supervised("b", 8, bf16=True),
    ),
    "vit-s-train-bf16-compiled": (
        "ViT-S/16 supervised step, batch 16, bf16, beside torch.compile",
        lambda _: supervised("s", 16, bf16=True, compiled=True),
    ),
    "ibot-4": ("iBOT step, ViT-S, 2 x 224 + 10 x 96, batch 4, f32", lambda _: ibot(4)),
    "ibot-16": ("iBOT step, batch 16, f32", lambda _: ibot(16)),
    "ibot-4-bf16": ("iBOT step, batch 4, bf16", lambda _: ibot(4, bf16=True)),
    "ibot-16-bf16": ("iBOT step, batch 16, bf16", lambda _: ibot(16, bf16=True)),
    "vit-s-infer-1": ("ViT-S/16 inference, batch 1, f32", lambda _: inference(1)),
    "vit-s-infer-32": ("ViT-S/16 inference, batch 32, f32", lambda _: inference(32)),
    "vit-s-infer-1-onnxruntime": (
        "ViT-S/16 inference, batch 1, f32, beside onnxruntime",
        lambda _: onnxruntime_inference(1),
    ),
    "vit-s-infer-32-onnxruntime": (
        "ViT-S/16 inference, batch 32, f32, beside onnxruntime",
        lambda _: onnxruntime_inference(32),
    ),
    "small-ops": ("a million ops on 16 numbers, with gradients", lambda _: small_ops()),
    "crops": ("2 + 10 crops of 32 JPEGs of 500 x 375, one thread", crops),
    "update": ("clip, AdamW and teacher's average, ViT-B", lambda _: update()),
}


def peer(name, folder):
    """PyTorch's side, in a process of its own: it answers as bench_compare does."""
    run = WORKS[name][1](folder)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


class Side:
    def __init__(self, command, processor_time):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.processor_time = processor_time
        self.seconds = []

    def used(self):
        """Processor seconds of the process so far; Linux only."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run(self, counts=True):
        time.sleep(0.2)  # threads of the other side may spin for a while
        before = self.used() if self.processor_time else 0.0
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = float(self.process.stdout.readline())
        if self.processor_time:
            answer = self.used() - before
        if counts:
            self.seconds.append(answer)

    def close(self):
        """Peak memory, MiB; Linux only. (What getrusage says begins with this process's own, which its children inherit.)"""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        self.process.stdin.close()
        self.process.wait()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024


def compare(arguments, name):
    with tempfile.TemporaryDirectory() as folder:
        if name == "crops":
            write_photographs(folder)
        threads = "1" if name == "crops" else str(arguments.threads)
        bench = f"{arguments.build}/tests/bench/bench_compare"
        ours = Side(["env", f"OMP_NUM_THREADS={threads}", bench, name, folder], arguments.cpu)
        here = [sys.executable, __file__, arguments.build, name, "--peer", folder]
        theirs = Side(["env", f"OMP_NUM_THREADS={threads}", *here, "--threads", threads], arguments.cpu)
        for i in range(arguments.rounds + 1):
            ours.run(i > 0)
            theirs.run(i > 0)
        a, b = statistics.median(ours.seconds), statistics.median(theirs.seconds)
        ratio = statistics.median(t / o for o, t in zip(ours.seconds, theirs.seconds))
        memory = ours.close(), theirs.close()
    print(
        f"{WORKS[name][0]}: {1e3 * a:.1f} ms, there {1e3 * b:.1f} ms, {ratio:.2f} times as fast; "
        f"peak {memory[0]} MiB, there {memory[1]} MiB",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("build", help="the build directory")
    parser.add_argument("work", nargs="*", default=[], help=f"of {' '.join(WORKS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="after one that does not count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="compare processor seconds, with --threads 1, on a machine that has other work",
    )
    parser.add_argument("--peer", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.work:
        if name not in WORKS:
            parser.error(f"no work {name}: {' '.join(WORKS)}")
    if arguments.peer:
        return peer(arguments.work[0], arguments.peer)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds")
    for name in arguments.work or WORKS:
        compare(arguments, name)


if __name__ == "__main__":
    main()
