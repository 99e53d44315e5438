"""Layers with the outputs and gradients of PyTorch's, but a cheaper backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

Pair = tuple[int, int]


def cheaper_backward(network: nn.Module) -> None:
    """Replace layers of `network` in place by those below, with the same weights.

    These are ReLU6 and depthwise convolutions with a stride or a large kernel, as in MobileNetV2
    and EfficientNet-Lite. Names of weights, outputs and exports are unchanged.
    """
    for layer in network.modules():
        if type(layer) is nn.ReLU6:
            layer.__class__ = ReLU6
        elif isinstance(layer, nn.Conv2d) and _is_slow_depthwise(layer):
            if type(layer) is nn.Conv2d:
                layer.__class__ = DepthwiseConv2d
            elif type(layer).__name__ == "Conv2dSame":  # timm's
                layer.__class__ = SameDepthwiseConv2d


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


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise `nn.Conv2d` whose gradients are computed in another way.

    It is used in bfloat16 on a CPU only, where oneDNN has no fast kernel for the gradient of the
    input at strides above 1, nor for that of weights above 3x3. See `input_gradient` and
    `weight_gradient`.
    """

    def forward(self, input: Tensor) -> Tensor:
        # a Function's arguments are not cast
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        if cast != torch.bfloat16 or input.device.type != "cpu" or not _trains(input):
            return super().forward(input)
        bias = None if self.bias is None else self.bias.to(cast)
        given = input.to(cast), self.weight.to(cast), bias
        y: Tensor = _DepthwiseConv2d.apply(*given, self.stride, self.padding)
        return y


class SameDepthwiseConv2d(DepthwiseConv2d):
    """`DepthwiseConv2d` for timm's `Conv2dSame`: TensorFlow's padding, the odd pixel at the end."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(pad_same(input, self.kernel_size, self.stride))


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pad maps (N, C, H, W) with zeros as TensorFlow's SAME: ceil(size / stride) outputs.

    Of an odd number of zeros, one more is on the right and below.
    """
    sides = zip(x.shape[2:], kernel, stride, strict=True)
    top, left = (max((-(-side // s) - 1) * s + k - side, 0) for side, k, s in sides)
    return F.pad(x, [left // 2, left - left // 2, top // 2, top - top // 2])


def _trains(x: Tensor) -> bool:
    """Whether a backward pass follows, and this pass is not traced."""
    return x.requires_grad and torch.is_grad_enabled() and not torch.jit.is_tracing()


def _is_slow_depthwise(layer: nn.Conv2d) -> bool:
    channels, padding = layer.in_channels, layer.padding
    return (
        layer.groups == channels == layer.out_channels
        and (max(layer.stride) > 1 or max(layer.kernel_size) > 3)
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


class _DepthwiseConv2d(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_size = None if bias is None else bias.shape
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        to_x, to_weight, to_bias = ctx.needs_input_grad[:3]
        of_x = of_weight = None
        if to_x and max(stride) > 1:
            of_x, to_x = input_gradient(gradient, x, weight, stride, padding), False
        if to_weight and max(weight.shape[2:]) > 3:
            kernel = weight.shape[2], weight.shape[3]
            of_weight, to_weight = weight_gradient(gradient, x, kernel, stride, padding), False
        rest = (to_x, to_weight, to_bias)
        others = _gradients(gradient, x, weight, stride, padding, rest, ctx.bias_size)
        of_x = others[0] if of_x is None else of_x
        of_weight = others[1] if of_weight is None else of_weight
        return of_x, of_weight, others[2], None, None


def _gradients(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Pair,
    padding: Pair,
    wanted: tuple[bool, bool, bool],
    bias_size: torch.Size | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """PyTorch's gradients of input, weights and bias; those that are not wanted are None."""
    given = gradient, x, weight, bias_size, stride, padding, (1, 1), False, (0, 0), len(weight)
    found: tuple[Tensor | None, Tensor | None, Tensor | None]
    found = torch.ops.aten.convolution_backward(*given, wanted)
    return found


def input_gradient(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Pair,
    padding: Pair,
) -> Tensor:
    """The gradient of a depthwise convolution's input.

    The output's gradient is spread over a map of zeros and convolved at stride 1 with the mirrored
    kernels.

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


def weight_gradient(
    gradient: Tensor, x: Tensor, kernel: Pair, stride: Pair, padding: Pair
) -> Tensor:
    """The gradient of a depthwise convolution's weights, in tiles of 3x3.

    Args:
        gradient: (N, C, h, w) gradient of its output.
        x: (N, C, H, W) input.

    Returns:
        (C, 1, k, l).
    """
    rows, columns = (range(0, k, 3) for k in kernel)
    beyond = [3 * len(tiles) - k for tiles, k in zip((rows, columns), kernel, strict=True)]
    padded = F.pad(x, [padding[1], padding[1] + beyond[1], padding[0], padding[0] + beyond[0]])
    height, width = ((n - 1) * s + 3 for n, s in zip(gradient.shape[2:], stride, strict=True))
    tile = gradient.new_empty(gradient.shape[1], 1, 3, 3)

    def of_tile(i: int, j: int) -> Tensor:
        seen = padded[:, :, i : i + height, j : j + width]
        seen = seen.contiguous(memory_format=torch.channels_last)
        found = _gradients(gradient, seen, tile, stride, (0, 0), (False, True, False))[1]
        assert found is not None
        return found

    whole = torch.cat([torch.cat([of_tile(i, j) for j in columns], 3) for i in rows], 2)
    return whole[:, :, : kernel[0], : kernel[1]]
