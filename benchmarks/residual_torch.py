"""The peers of `residual_step.py`: CIFAR's residual networks and their KD step in PyTorch, and torchdistill's.

The model is `models/resnet.py` of https://github.com/HobbitLong/RepDistiller, whose numbers the papers of the field
report, with the names of `jaxdistill.models.cifar_resnet`, so that weights go over by name.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

TEMPERATURE, TASK, KD = 4.0, 0.1, 0.9


class Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut_conv = None
        if stride != 1 or before != channels:
            self.shortcut_conv = nn.Conv2d(before, channels, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        shortcut = x if self.shortcut_conv is None else self.shortcut_norm(self.shortcut_conv(x))
        x = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    """`[batch, 3, 32, 32]` to `[batch, classes]`."""

    def __init__(self, depth: int, width: int, classes: int):
        super().__init__()
        before = 16 if width == 1 else 32
        self.stem_conv, self.stem_norm = nn.Conv2d(3, before, 3, 1, 1, bias=False), nn.BatchNorm2d(before)
        self.blocks = []
        for number, channels in ((1, 16), (2, 32), (3, 64)):
            for index in range((depth - 2) // 6):
                name = f"stage{number}_block{index}"
                self.add_module(name, Block(before, channels * width, 2 if number > 1 and index == 0 else 1))
                self.blocks.append(name)
                before = channels * width
        self.head = nn.Linear(before, classes)

    def forward(self, x):
        x = F.relu(self.stem_norm(self.stem_conv(x)))
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.head(x.mean((2, 3)))


NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def load(model: nn.Module, variables: Mapping[str, Any]) -> None:
    """Copies Linen variables, as nested dicts of numpy arrays, into a model with the same names; none may be left."""
    arrays = {}

    def walk(tree: Mapping[str, Any], path: list[str]) -> None:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, [*path, name])
                continue
            turned = {4: (3, 2, 0, 1), 2: (1, 0)}.get(np.ndim(value))
            array = np.transpose(np.asarray(value), turned) if turned else np.asarray(value)
            arrays[".".join([*path, NAMES[name]])] = torch.from_numpy(np.array(array))

    for collection in variables.values():
        walk(collection, [])
    counters = {n: x for n, x in model.state_dict().items() if n.endswith("num_batches_tracked")}
    model.load_state_dict(arrays | counters, strict=True)


def kd_loss(student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    left, right = F.log_softmax(student / TEMPERATURE, 1), F.log_softmax(teacher / TEMPERATURE, 1)
    divergence = F.kl_div(left, right, reduction="batchmean", log_target=True) * TEMPERATURE**2
    return TASK * F.cross_entropy(student, label) + KD * divergence


class TorchSteps:
    """The KD step on data that is resident on the device, as uint8 and standardised by batch, as ours is.

    Args:
        pair: (depth, width) of teacher and of student.
        starts: their Linen variables.
        data: `image` uint8 `[examples, 32, 32, 3]`, `label` `[examples]`, and the channels' `mean` and `std`.
        indices: yields the indices of the batches.
        form: "eager", "channels_last", "compiled" (channels_last), "graphs" (compiled, CUDA graphs), "bfloat16"
            (compiled under autocast).
    """

    def __init__(
        self, pair: Any, starts: Mapping[str, Any], data: Mapping[str, Any], indices: Any, form: str, rate: float
    ):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        layout = torch.contiguous_format if form == "eager" else torch.channels_last
        self.teacher, self.student = (ResNet(*shape, data["classes"]) for shape in pair)
        load(self.teacher, starts["teacher"])
        load(self.student, starts["student"])
        self.teacher.to(self.device, memory_format=layout).eval().requires_grad_(False)
        self.student.to(self.device, memory_format=layout).train()
        image = torch.from_numpy(data["image"]).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        self.image, self.label = image.to(self.device), torch.from_numpy(data["label"]).long().to(self.device)
        mean, std = (torch.tensor(data[name], device=self.device).reshape(1, 3, 1, 1) for name in ("mean", "std"))
        self.optimizer = torch.optim.SGD(self.student.parameters(), rate, momentum=0.9, weight_decay=5e-4)
        self._indices, self.losses = indices, np.zeros(0)

        def loss(image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            image = (image.float() / 255 - mean) / std
            with torch.autocast(self.device.type, torch.bfloat16, enabled=form == "bfloat16"):
                with torch.no_grad():
                    teacher = self.teacher(image)
                student = self.student(image)
            return kd_loss(student.float(), teacher.float(), label)

        mode = {"compiled": "default", "bfloat16": "default", "graphs": "reduce-overhead"}.get(form)
        self._loss: Callable = torch.compile(loss, mode=mode) if mode else loss

    def step(self) -> torch.Tensor:
        index = torch.from_numpy(next(self._indices)).to(self.device)
        loss = self._loss(self.image[index], self.label[index])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def run(self, steps: int) -> None:
        losses = torch.stack([self.step().clone() for _ in range(steps)])
        self.losses = losses.cpu().numpy()  # waits


def torchdistill_steps(pair: Any, starts: Mapping[str, Any], data: Mapping[str, Any], batch: int, rate: float) -> Any:
    """Returns torchdistill's training loop over the same models, as an object with `run(steps)` and `losses`.

    Its distillation box, its criterion (`KDLoss`), its data loader and, as in the loop of its examples, for each batch:
    to the device, `forward_process`, `post_forward_process`. The loader reads standardised float32 images from memory,
    shuffled, without workers. Batches are collated from single examples, as its loader does.
    """
    logging.getLogger("torchdistill").setLevel(logging.ERROR)
    from torchdistill.core.distillation import DistillationBox

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher, student = (ResNet(*shape, data["classes"]) for shape in pair)
    load(teacher, starts["teacher"])
    load(student, starts["student"])
    teacher.to(device).eval()
    student.to(device)
    mean, std = (np.asarray(data[name], np.float32) for name in ("mean", "std"))
    image = torch.from_numpy(((data["image"].astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2).copy())
    dataset = torch.utils.data.TensorDataset(image, torch.from_numpy(data["label"]).long())
    logits = {"student_module_path": ".", "student_module_io": "output"}
    logits |= {"teacher_module_path": ".", "teacher_module_io": "output"}
    kd = {"key": "KDLoss", "kwargs": logits | {"temperature": TEMPERATURE, "alpha": TASK, "reduction": "batchmean"}}
    whole = {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}}}
    loader = {"dataset_id": "train", "sampler": {"class_or_func": torch.utils.data.RandomSampler}}
    loader["kwargs"] = {"batch_size": batch, "num_workers": 0, "drop_last": True, "pin_memory": device.type == "cuda"}
    training = {
        "num_epochs": 1,
        "train_data_loader": loader,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "criterion": whole,
        "optimizer": {"key": "SGD", "kwargs": {"lr": rate, "momentum": 0.9, "weight_decay": 5e-4}},
    }
    box = DistillationBox(teacher, student, {"train": dataset}, training, device, None, False, 1)
    return Boxed(box, device)


class Boxed:
    """The loop of torchdistill's examples around its box."""

    def __init__(self, box: Any, device: torch.device):
        self.box, self.device, self.losses = box, device, np.zeros(0)
        box.pre_epoch_process(epoch=0)
        self._batches = self._endless()

    def _endless(self):
        while True:
            yield from self.box.train_data_loader

    def loss(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.box.forward_process(image.to(self.device), label.to(self.device), None)

    def run(self, steps: int) -> None:
        losses = []
        for _ in range(steps):
            image, label, more = next(self._batches)
            loss = self.box.forward_process(image.to(self.device), label.to(self.device), more)
            self.box.post_forward_process(loss=loss)
            losses.append(loss.detach())
        self.losses = torch.stack(losses).cpu().numpy()
