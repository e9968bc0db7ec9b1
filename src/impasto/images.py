"""Pictures in and out: anything a person may hand over becomes a float32 RGB tensor, and back.

Inside impasto a picture is a tensor (3, H, W), float32, sRGB, 0..1. All that can be wrong with a
file is found here and said in one line (`InputError`).
"""

import io
import json
import os
import secrets
import stat
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import (
    ExifTags,
    Image,
    ImageCms,
    ImageColor,
    ImageOps,
    PngImagePlugin,
    UnidentifiedImageError,
)
from torch import Tensor
from torch.nn import functional

from impasto.errors import InputError

__all__ = [
    "MIN_SIDE",
    "SUFFIXES",
    "Picture",
    "Source",
    "check_output",
    "check_size",
    "fit",
    "list_pictures",
    "read",
    "read_settings",
    "resize",
    "write",
]

MIN_SIDE = 16
"""The least height and width, in pixels, of a picture that `read` takes."""

_WRITERS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
}
_HEIF_SUFFIXES = (".heic", ".heif")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_KEEPS_ALPHA = {"PNG", "WEBP", "TIFF"}

SUFFIXES = (*_WRITERS, *_HEIF_SUFFIXES)
"""The suffixes, in lower case, of the pictures that `read` knows."""

_MARK = "impasto"
_COMMENT_HEAD = b"ASCII\0\0\0"  # the character code that EXIF asks for before a UserComment
_SRGB = ImageCms.createProfile("sRGB")
_quiet = threading.Lock()  # warnings.catch_warnings is not safe with threads on its own


@dataclass(frozen=True)
class Picture:
    """A picture, ready for use.

    rgb: (3, H, W) float32, 0..1, sRGB, laid over the background where the source let it through.
    alpha: (1, H, W) float32, 0..1, or None if the picture is opaque.
    name: the stem of the file it came from, or "picture".
    """

    rgb: Tensor
    alpha: Tensor | None
    name: str

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.rgb.shape[-2]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.rgb.shape[-1]

    def to_pil(self) -> Image.Image:
        """The picture with 8 bits a channel: mode RGBA if it has an alpha, RGB otherwise."""
        parts = [self.rgb] if self.alpha is None else [self.rgb, self.alpha]
        channels, (height, width) = sum(map(len, parts)), self.rgb.shape[-2:]
        levels = torch.empty(height, width, channels, dtype=torch.uint8)
        for top in range(0, height, 256):  # a large picture as floats once more would be too much
            rows = torch.cat([part[:, top : top + 256].detach().cpu() for part in parts])
            rows = rows.clamp(0, 1).mul_(255).round_()
            levels[top : top + 256] = rows.permute(1, 2, 0)
        return Image.fromarray(levels.numpy())


Source: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor | Picture


def read(source: Source, background: str = "white") -> Picture:
    """Read a picture from a file, a Pillow image, an array or a tensor.

    A file or Pillow image may have any usual mode and bit depth; it is turned upright (EXIF) and
    converted to sRGB by its colour profile. An array is (H, W) or (H, W, 1|3|4); a tensor is
    (1|3|4, H, W) or (1, 1|3|4, H, W); both hold uint8, uint16, bool or floats in 0..1. Transparent
    pixels are laid over `background`, a colour name or #hex. A Picture is returned as it is.

    Raises InputError, in one line, for whatever cannot be read or is no usable picture.
    """
    if isinstance(source, Picture):
        return source
    colour = _colour(background)
    if isinstance(source, Image.Image):
        file = getattr(source, "filename", "")
        name = Path(os.fsdecode(file)).stem or "picture"
        return _picture(_from_pil(source, _label(file or "the picture")), colour, name)
    if isinstance(source, np.ndarray):
        return _picture(_from_array(source, "the array"), colour, "picture")
    if isinstance(source, Tensor):
        return _picture(_from_tensor(source), colour, "picture")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _picture(_from_file(path), colour, path.stem or "picture")
    kind = type(source).__name__
    raise InputError(f"cannot read a picture from a {kind}; give a path, image, array or tensor")


def resize(rgb: Tensor, size: tuple[int, int]) -> Tensor:
    """`rgb` (.., C, H, W), 0..1, at `size` (height, width): antialiased bicubic, kept in 0..1.

    The tensor itself is returned where it has that size already.
    """
    if tuple(rgb.shape[-2:]) == tuple(size):
        return rgb
    batch = rgb.reshape(-1, *rgb.shape[-3:])
    scaled = functional.interpolate(batch, size=tuple(size), mode="bicubic", antialias=True)
    return scaled.clamp(0, 1).reshape(*rgb.shape[:-2], *size)


def fit(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The (height, width), each at least 1, with that short side and, rounded, the same aspect."""
    short = min(height, width)
    return max(1, round(height * short_side / short)), max(1, round(width * short_side / short))


def write(
    path: str | os.PathLike[str],
    rgb: Tensor,
    alpha: Tensor | None = None,
    settings: Mapping[str, Any] | None = None,
    background: str = "white",
    quality: int = 95,
) -> Path:
    """Write `rgb`, (3, H, W) or (1, 3, H, W), 0..1, in the format that the suffix of `path` names.

    The file appears whole or not at all; missing folders are made. PNG, WebP and TIFF keep `alpha`
    (1, H, W), resized to the picture where needed; the others are laid over `background`.
    `quality` (1..100) is for JPEG (4:4:4) and WebP. `settings` are embedded as JSON for
    `read_settings`, other types as their str(); BMP has no room for them and drops them.

    Raises InputError if the place, format or tensor will not do, or the disk is full.
    """
    path = check_output(path)
    kind = _WRITERS[path.suffix.lower()]
    colour = _colour(background)
    rgb = rgb.detach().cpu().float()
    if rgb.numel() == 0 or rgb.shape[-3:-2] != (3,) or rgb.shape[:-3] not in ((), (1,)):
        raise InputError(f"{_label(path)}: cannot write shape {tuple(rgb.shape)}; give (3, H, W)")
    if not all(value.isfinite() for value in rgb.aminmax()):
        raise InputError(f"{_label(path)}: the picture to write holds NaN or infinity; correct it")
    rgb = rgb.reshape(3, *rgb.shape[-2:])
    if alpha is not None:
        alpha = alpha.detach().cpu().float().reshape(1, *alpha.shape[-2:])
        alpha = resize(alpha, (rgb.shape[1], rgb.shape[2]))
        if kind not in _KEEPS_ALPHA:
            rgb, alpha = _over(rgb, alpha, colour), None
    image = Picture(rgb, alpha, path.stem).to_pil()
    text = None if settings is None else json.dumps(dict(settings), default=str)
    try:
        data = _encode(image, kind, text, quality)
    except (OSError, ValueError, RuntimeError) as fault:
        size = f"{image.width}x{image.height}"
        raise InputError(
            f"{_label(path)}: {kind} cannot hold this picture of {size} pixels and its settings "
            f"({_reason(fault)}); choose .png"
        ) from fault
    _replace(path, data)
    return path


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings that `write` embedded. Raises InputError if the picture carries none."""
    path = Path(path)
    settings = None
    with _open(path) as stream:
        image = _identify(stream, path)
        # A damaged EXIF block or comment is as good as none.
        with suppress(Exception):
            settings = json.loads(_embedded(image)) if image else None
    if not isinstance(settings, dict):
        raise InputError(
            f"{_label(path)}: carries no impasto settings; give a picture that impasto wrote "
            "(not BMP, and not edited since)"
        )
    return settings


def list_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """The files in `folder`, not below it, with one of `SUFFIXES`, sorted; hidden ones left out.

    Raises InputError if it is no folder that can be read.
    """
    try:
        return sorted(
            path
            for path in Path(folder).iterdir()
            if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
        )
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{_label(folder)}: cannot list it ({_reason(fault)}); give a folder of pictures"
        ) from fault


def check_output(path: str | os.PathLike[str]) -> Path:
    """`path` as a Path, if `write` can put a picture there. Writes and makes nothing.

    Raises InputError if the suffix is no writable format, the path is a folder, or its folder
    can neither be written to nor made.
    """
    path = Path(path)
    label = _label(path)
    if path.suffix.lower() not in _WRITERS:
        known = " ".join(_WRITERS)
        raise InputError(f"{label}: cannot write the format {path.suffix!r}; use one of {known}")
    try:
        is_folder = path.is_dir()
        folder = next((parent for parent in path.parents if parent.exists()), path.parent)
    except (OSError, ValueError) as fault:
        raise InputError(f"{label}: no usable path ({_reason(fault)}); give another") from fault
    if is_folder:
        raise InputError(f"{label}: is a folder; give the name of a picture file")
    if not folder.is_dir():
        raise InputError(f"{label}: {_label(folder)} is a file, not a folder; give another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{label}: cannot write in the folder {_label(folder)}; give another path")
    return path


# Reading ---------------------------------------------------------------------------------------


def _from_file(path: Path) -> Tensor:
    with _open(path) as stream:
        image = _identify(stream, path)
        if image is None or _is_planar_16_bit(image):
            return _from_tifffile(stream, path)
        return _from_pil(image, _label(path))


def _open(path: Path) -> BinaryIO:
    """`path` opened to read, if it is a file with something in it."""
    label = _label(path)
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size:  # opening a pipe would wait for ever
            return open(path, "rb")
    except (OSError, ValueError) as fault:
        raise InputError(
            f"{label}: cannot open it ({_reason(fault)}); check the path and its permissions"
        ) from fault
    kinds = {stat.S_IFREG: "is empty", stat.S_IFDIR: "is a folder"}
    fault_name = kinds.get(stat.S_IFMT(status.st_mode), "is no regular file")
    raise InputError(f"{label}: {fault_name}; give a picture file")


def _identify(stream: BinaryIO, path: Path) -> Image.Image | None:
    """The picture, its pixels not yet decoded; None for a TIFF of a kind that Pillow lacks."""
    label = _label(path)
    head = stream.read(12)
    # Only these formats: Pillow would hand others, such as EPS, to outside programs.
    formats = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"]
    is_heif = head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS
    if is_heif or path.suffix.lower() in _HEIF_SUFFIXES:
        try:
            import pillow_heif
        except ImportError as fault:
            raise InputError(
                f"{label}: reading HEIC needs a plugin; pip install pillow-heif"
            ) from fault
        pillow_heif.register_heif_opener()
        formats.append("HEIF")
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(stream, formats=formats)
    except Image.DecompressionBombError as fault:
        raise InputError(
            f"{label}: too large to be read safely ({_reason(fault)}); scale it down"
        ) from fault
    except UnidentifiedImageError as fault:
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        raise InputError(
            f"{label}: not a picture; give a JPEG, PNG, WebP, TIFF, BMP, GIF or HEIC file"
        ) from fault
    except Exception as fault:  # the decoders raise all sorts for damaged files
        raise _damaged(label, fault) from fault


def _is_planar_16_bit(image: Image.Image) -> bool:
    """Whether this is a TIFF that Pillow takes for 8 bits deep, and garbles without a word."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(284) == 2 and max(tags.get(258, (8,))) > 8  # PlanarConfiguration, BitsPerSample


def _from_tifffile(stream: BinaryIO, path: Path) -> Tensor:
    """Planes of a TIFF that Pillow cannot read (its colour profile and orientation are left be)."""
    label = _label(path)
    try:
        import tifffile
    except ImportError as fault:
        raise InputError(
            f"{label}: an unusual TIFF; pip install tifffile, or save it with 8 bits a channel"
        ) from fault
    stream.seek(0)
    try:
        page: Any = tifffile.TiffFile(stream).pages[0]
        check_size(page.imagelength, page.imagewidth, label)
        if page.photometric.name not in ("RGB", "MINISBLACK"):
            raise InputError(f"{label}: a TIFF in {page.photometric.name}; save it as RGB")
        pixels = page.asarray()
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.shape[2:] == (2,):  # grey and alpha
            pixels = pixels[..., [0, 0, 0, 1]]
    except InputError:
        raise
    except Exception as fault:
        raise _damaged(label, fault) from fault
    return _from_array(pixels, label)


def _from_pil(image: Image.Image, label: str) -> Tensor:
    """(1|3|4, H, W), 0..1, sRGB."""
    check_size(image.height, image.width, label)
    try:
        image.load()
        with suppress(Exception):  # a broken EXIF block is no reason to refuse the picture
            image = ImageOps.exif_transpose(image)
        profile = image.info.get("icc_profile")
        if image.mode == "F" or image.mode.startswith("I"):
            grey = _deep_grey(image, label)
            if not profile:
                return torch.from_numpy(grey)[None]
            image = Image.fromarray((grey * 255).round().astype(np.uint8))  # all that ICC takes
        alpha = None
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            alpha = rgba.getchannel("A")
            image = rgba.getchannel("R") if image.mode in ("1", "L", "LA") else rgba.convert("RGB")
        image = _to_srgb(image, profile)
        if alpha is not None:
            image.putalpha(alpha)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
    except InputError:
        raise
    except Exception as fault:  # the decoders raise all sorts for damaged files
        raise _damaged(label, fault) from fault


def _deep_grey(image: Image.Image, label: str) -> NDArray[np.float32]:
    """(H, W), 0..1, of a grey image in mode I;16, I or F.

    The modes I and F do not say what white is, so it is the least of 1 (F only), 255 and 65535
    that no pixel is above.
    """
    grey = np.array(image, dtype=np.float32)
    peak = {"F": (1, 255, 65535), "I": (255, 65535)}.get(image.mode, (65535,))
    white = next((level for level in peak if grey.max() <= level), None)
    if white is None or not grey.min() >= 0:  # so written as to catch NaN too
        raise InputError(
            f"{label}: grey levels outside 0..65535 or not a number; scale them to 0..1"
        )
    return grey / np.float32(white)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """`image`, opaque with 8 bits a channel, as RGB; a broken or unfit profile is ignored."""
    if image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
                image = image.convert("RGB")
            return ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB") or image
    return image.convert("RGB")


def _from_array(array: NDArray[Any], label: str) -> Tensor:
    """(1|3|4, H, W), 0..1."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise InputError(
            f"{label}: its shape is {array.shape}; give (H, W), (H, W, 3) or (H, W, 4)"
        )
    check_size(array.shape[0], array.shape[1], label)
    values = np.moveaxis(array, 2, 0).astype(np.float32, order="C")
    return _scaled(torch.from_numpy(values), array.dtype.name, label)


def _from_tensor(tensor: Tensor) -> Tensor:
    """(1|3|4, H, W), 0..1."""
    label = "the tensor"
    planes = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if planes.ndim != 3 or planes.shape[0] not in (1, 3, 4):
        raise InputError(f"{label}: its shape is {tuple(tensor.shape)}; give one (3, H, W)")
    check_size(planes.shape[1], planes.shape[2], label)
    # A copy, since a Picture must not change when its source does.
    values = planes.detach().to("cpu", torch.float32, copy=True)
    return _scaled(values, str(tensor.dtype).removeprefix("torch."), label)


def _scaled(values: Tensor, dtype: str, label: str) -> Tensor:
    """float32 `values`, converted from `dtype`, brought to 0..1."""
    whites = {"uint8": 255, "uint16": 65535, "bool": 1}
    if dtype in whites:
        return values / whites[dtype]
    if "float" not in dtype:
        raise InputError(f"{label}: its type is {dtype}; give float in 0..1, or uint8")
    if not all(value.isfinite() for value in values.aminmax()):
        raise InputError(f"{label}: it holds NaN or infinity; replace them by numbers in 0..1")
    low, high = values.min().item(), values.max().item()
    if low < -1e-4 or high > 1 + 1e-4:  # rounding aside
        raise InputError(f"{label}: values from {low:g} to {high:g}; scale them to 0..1")
    return values.clamp_(0, 1)


def _picture(planes: Tensor, colour: Tensor, name: str) -> Picture:
    """Split planes (1|3|4, H, W) into rgb, laid over `colour`, and alpha."""
    if len(planes) < 4:
        return Picture(planes.expand(3, -1, -1).contiguous(), None, name)
    rgb, alpha = planes[:3].clone(), planes[3:].clone()
    if alpha.min() >= 1:
        return Picture(rgb, None, name)
    return Picture(_over(rgb, alpha, colour), alpha, name)


def _over(rgb: Tensor, alpha: Tensor, colour: Tensor) -> Tensor:
    return rgb * alpha + colour * (1 - alpha)


def _colour(background: str) -> Tensor:
    """(3, 1, 1), 0..1."""
    try:
        levels = ImageColor.getrgb(background)[:3]
    except (ValueError, AttributeError, TypeError) as fault:
        raise InputError(
            f"background {background!r}: not a known colour; give a name such as white, or #hex"
        ) from fault
    return torch.tensor(levels, dtype=torch.float32).reshape(3, 1, 1) / 255


def check_size(height: int, width: int, label: str) -> None:
    """Raise InputError for a picture too small to be seen, or too large for memory."""
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{label}: {width}x{height} pixels is too small; each side needs at least {MIN_SIDE}"
        )
    need, have = height * width * 3 * 4 * 4, psutil.virtual_memory().available
    if need > have:
        raise InputError(
            f"{label}: {width}x{height} pixels need some {need / 2**30:.1f} GiB of memory and "
            f"{have / 2**30:.1f} are free; scale it down"
        )


# Writing ---------------------------------------------------------------------------------------


def _encode(image: Image.Image, kind: str, settings: str | None, quality: int) -> bytes:
    """`image` as the bytes of a file of that kind, with `settings` (ASCII) where it has room."""
    options: dict[str, Any] = {}
    if kind in ("JPEG", "WEBP"):
        options["quality"] = quality
    if kind == "JPEG":
        options["subsampling"] = 0
    if settings is not None:
        if kind == "PNG":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt(_MARK, settings)
        elif kind == "GIF":
            options["comment"] = f"{_MARK} {settings}".encode("ascii")
        elif kind != "BMP":
            exif = Image.Exif()
            exif[ExifTags.Base.Software] = _MARK
            comment = _COMMENT_HEAD + settings.encode("ascii")
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
            # As bytes: Pillow leaves the inner block out of a TIFF when given the object.
            options["exif"] = exif.tobytes()
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _embedded(image: Image.Image) -> str:
    """The JSON text that `_encode` put in, or an empty string."""
    if image.format == "PNG":
        return str(image.info.get(_MARK, ""))
    if image.format == "GIF":
        mark, _, text = bytes(image.info.get("comment", b"")).decode("ascii").partition(" ")
        return text if mark == _MARK else ""
    exif = image.getexif()
    if exif.get(ExifTags.Base.Software) != _MARK:
        return ""
    comment = exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    return bytes(comment).removeprefix(_COMMENT_HEAD).decode("ascii")


def _replace(path: Path, data: bytes) -> None:
    """Put `data` at `path` in one step: others see the old file or the new one, never a part.

    Of a link, what it points to is replaced, and the link stays.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{_MARK}-{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as stream:
                stream.write(data)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as fault:
        raise InputError(
            f"{_label(path)}: cannot write it ({_reason(fault)}); free some space or give "
            "another path"
        ) from fault


# Messages --------------------------------------------------------------------------------------


def _label(path: object) -> str:
    """`path` for a message of one line."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _reason(fault: BaseException) -> str:
    text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return " ".join(text.split())


def _damaged(label: str, fault: Exception) -> InputError:
    if isinstance(fault, MemoryError):
        return InputError(f"{label}: not enough memory to decode it; scale it down")
    return InputError(f"{label}: damaged or cut short ({_reason(fault)}); get a whole copy")
