"""Layers with the outputs and gradients of PyTorch's, but a cheaper backward pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def cheaper_backward(network: nn.Module) -> None:
    """Replace layers of `network` in place by those below, with the same weights.

    These are ReLU6 and strided depthwise convolutions, as in MobileNetV2 and later networks. Names
    of weights, outputs and exports are unchanged.
    """
    for layer in network.modules():
        if type(layer) is nn.ReLU6:
            layer.__class__ = ReLU6
        elif type(layer) is nn.Conv2d and _is_strided_depthwise(layer):
            layer.__class__ = StridedDepthwise


class ReLU6(nn.ReLU6):
    """`nn.ReLU6` whose backward pass reads its output, as ReLU's does.

    PyTorch's reads the input, which it copies before overwriting it in place. A compiled graph does
    not copy, and its gradients have the same bits.
    """

    def forward(self, input: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or not _trains(input):
            return super().forward(input)
        y: Tensor = _ReLU6.apply(input, self.inplace)
        return y


class StridedDepthwise(nn.Conv2d):
    """A depthwise `nn.Conv2d` with stride above 1 and a different input gradient.

    It is used in bfloat16 on a CPU only, where oneDNN has no fast kernel: the gradients of
    MobileNetV2's four layers took two thirds of a step (torch 2.15.0, AMD EPYC with avx512_bf16).
    Here the output gradient is spread over a map of zeros and convolved at stride 1 with the
    mirrored kernels.
    """

    def forward(self, input: Tensor) -> Tensor:
        # a Function's arguments are not cast
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if cast != torch.bfloat16 or input.device.type != "cpu" or not _trains(input):
            return super().forward(input)
        bias = None if self.bias is None else self.bias.to(cast)
        given = input.to(cast), self.weight.to(cast), bias
        y: Tensor = _StridedDepthwise.apply(*given, self.stride, self.padding)
        return y


def _trains(x: Tensor) -> bool:
    """Whether a backward pass follows, and this pass is not traced."""
    return x.requires_grad and torch.is_grad_enabled() and not torch.jit.is_tracing()


def _is_strided_depthwise(layer: nn.Conv2d) -> bool:
    channels, padding = layer.in_channels, layer.padding
    return (
        layer.groups == channels == layer.out_channels
        and max(layer.stride) > 1
        and set(layer.dilation) == {1}
        and layer.padding_mode == "zeros"
        and not isinstance(padding, str)
        and all(p < k for p, k in zip(padding, layer.kernel_size, strict=True))
    )


class _ReLU6(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
        y = F.relu6(x, inplace=inplace)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, y, 0.0, 6.0), None


class _StridedDepthwise(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_size = None if bias is None else bias.shape
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, *to_others = ctx.needs_input_grad[:3]
        of_x = input_gradient(gradient, x, weight, ctx.stride, ctx.padding) if to_x else None
        _, *of_others = torch.ops.aten.convolution_backward(
            gradient,
            x,
            weight,
            ctx.bias_size,
            ctx.stride,
            ctx.padding,
            (1, 1),
            False,
            (0, 0),
            len(weight),
            (False, *to_others),
        )
        return of_x, *of_others, None, None


def input_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """The gradient of a depthwise convolution's input.

    Args:
        gradient: (N, C, h, w) gradient of its output.
        x: (N, C, H, W) input.
        weight: (C, 1, k, l).
    """
    kernel = weight.shape[2:]
    sides = [s + 2 * p - k + 1 for s, p, k in zip(x.shape[2:], padding, kernel, strict=True)]
    # at stride 1 there are outputs in between, which nobody took
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    spread = torch.empty(
        (*x.shape[:2], *sides),
        dtype=x.dtype,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    spread.zero_()[:, :, :: stride[0], :: stride[1]] = gradient
    around = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
    return F.conv2d(spread, weight.flip(2, 3), None, 1, around, groups=len(weight))
