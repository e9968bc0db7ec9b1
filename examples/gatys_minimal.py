"""Style transfer in one file: Gatys, Ecker & Bethge, CVPR 2016.

    python examples/gatys_minimal.py photo.jpg painting.jpg out.png

A network that was trained to recognise things turns a picture into features: maps, one for each
channel, of where it sees what. Deep features tell *what* is in the picture, its content. Which
features occur *together*, wherever that is, tells how it is painted, its style. Here the pixels of
a picture are changed until its content is the photograph's and its style the painting's.
"""

import argparse

import torch

from impasto import Moments, load_backbone, read, write
from impasto.images import fit, resize
from impasto.losses import content_loss, gram_loss, range_loss
from impasto.progress import bar

CONTENT_LAYER = "relu4_1"
STYLE_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
STYLE_WEIGHT = 100.0  # of the style against the content: beta / alpha in the article


def load_picture(path, size):
    """The picture as a tensor (1, 3, H, W) of RGB in 0..1, its shorter side `size` pixels."""
    rgb = read(path).rgb
    return resize(rgb, fit(*rgb.shape[-2:], size))[None]


def style_transfer(photo, painting, iterations, on_step):
    """A picture (1, 3, H, W) with the content of `photo` and the style of `painting`."""
    net = load_backbone("compact")  # or "vgg19", as in the article: 575 MB to download

    # The targets. Moments are sums over positions, which forget where in the painting a feature
    # was; the Gram matrix G = F F^T / N, each channel times each other, is one of them.
    with torch.no_grad():
        target_content = net(photo, [CONTENT_LAYER])[CONTENT_LAYER]
        target_style = {
            layer: Moments.of(features[0])
            for layer, features in net(painting, STYLE_LAYERS).items()
        }

    def loss_of(picture):
        features = net(picture.clamp(0, 1), {CONTENT_LAYER, *STYLE_LAYERS})
        content = content_loss(features[CONTENT_LAYER], target_content)
        style = sum(
            gram_loss(Moments.of(features[layer][0]), target_style[layer]) for layer in STYLE_LAYERS
        ) / len(STYLE_LAYERS)
        # Pixels beyond black or white look the same; this brings them back.
        return content + STYLE_WEIGHT * style + 1e4 * range_loss(picture)

    # The network stays as it is: what is optimised are the pixels, from the photograph on.
    picture = photo.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([picture], max_iter=1, history_size=10)

    def closure():
        optimizer.zero_grad()
        # The loss is a mean. L-BFGS takes its gradient for zero unless it is of a sum over pixels.
        loss = loss_of(picture) * picture[0, 0].numel()
        loss.backward()
        return loss

    for step in range(1, iterations + 1):
        loss = optimizer.step(closure)
        on_step(step, iterations, loss.item() / picture[0, 0].numel())
    return picture.detach().clamp(0, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo")
    parser.add_argument("painting")
    parser.add_argument("out")
    parser.add_argument("--size", type=int, default=256, help="shorter side in pixels")
    parser.add_argument("--iterations", type=int, default=100)
    args = parser.parse_args()

    photo, painting = (load_picture(path, args.size) for path in (args.photo, args.painting))
    with bar("painting") as on_step:
        result = style_transfer(photo, painting, args.iterations, on_step)
    write(args.out, result[0])
