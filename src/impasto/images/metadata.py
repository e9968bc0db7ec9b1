"""Metadata of files: what is kept of a source, and impasto's settings.

Settings are JSON text. JPEG, WebP, AVIF and TIFF hold them in an XMP packet with impasto's own
namespace, PNG in a text chunk named impasto, GIF in its comment. No field that cameras or other
programs use marks a picture as written by impasto.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from PIL import ExifTags, Image, ImageCms

from .picture import Metadata

MARK = "impasto"
_SPACE = "urn:impasto:settings/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EXIF, _GPS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
_Tag = ExifTags.Base

# Other tags describe the layout, colours or size of the old file, or hold its thumbnail.
_ABOUT = (
    *(_Tag.ImageDescription, _Tag.Make, _Tag.Model, _Tag.Software, _Tag.DateTime, _Tag.Artist),
    *(_Tag.Copyright, _Tag.HostComputer),
)
_EXPOSURE = (
    *(_Tag.ExposureTime, _Tag.FNumber, _Tag.ExposureProgram, _Tag.SpectralSensitivity),
    *(_Tag.ISOSpeedRatings, _Tag.SensitivityType, _Tag.StandardOutputSensitivity),
    *(_Tag.RecommendedExposureIndex, _Tag.ISOSpeed, _Tag.ExifVersion),
    *(_Tag.DateTimeOriginal, _Tag.DateTimeDigitized, _Tag.OffsetTime, _Tag.OffsetTimeOriginal),
    *(_Tag.OffsetTimeDigitized, _Tag.SubsecTime, _Tag.SubsecTimeOriginal),
    *(_Tag.SubsecTimeDigitized, _Tag.ShutterSpeedValue, _Tag.ApertureValue),
    *(_Tag.BrightnessValue, _Tag.ExposureBiasValue, _Tag.MaxApertureValue, _Tag.SubjectDistance),
    *(_Tag.MeteringMode, _Tag.LightSource, _Tag.Flash, _Tag.FocalLength, _Tag.UserComment),
    *(_Tag.ExposureMode, _Tag.WhiteBalance, _Tag.DigitalZoomRatio, _Tag.FocalLengthIn35mmFilm),
    *(_Tag.SceneCaptureType, _Tag.GainControl, _Tag.Contrast, _Tag.Saturation, _Tag.Sharpness),
    *(_Tag.SubjectDistanceRange, _Tag.CameraOwnerName, _Tag.BodySerialNumber),
    *(_Tag.LensSpecification, _Tag.LensMake, _Tag.LensModel, _Tag.LensSerialNumber),
)
_LONGEST = 4000  # most bytes of one value; no date and no lens is longer
_SEGMENT = 65533  # most bytes in a segment of a JPEG
_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_COMMENT_HEAD = b"ASCII\0\0\0"  # EXIF's character code at the start of a UserComment


def srgb_profile() -> bytes:
    """An ICC profile of sRGB that does not depend on the current date."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = (2000).to_bytes(2, "big") + b"\0\1\0\1" + bytes(6)  # its date of creation
    return bytes(profile)


# Metadata of a source --------------------------------------------------------------------------


def gather(image: Image.Image, dpi: Any = None) -> Metadata:
    """The metadata to keep from `image`, without its damaged parts."""
    about: dict[int, Any] = {}
    exposure: dict[int, Any] = {}
    place: dict[int, Any] = {}
    dpi = dpi or image.info.get("dpi")
    with suppress(Exception):
        exif = image.getexif()
        if not dpi:
            unit = {2: 1, 3: 2.54}[exif.get(_Tag.ResolutionUnit, 2)]
            across, down = (exif.get(tag, 0) for tag in (_Tag.XResolution, _Tag.YResolution))
            dpi = (float(across) * unit, float(down) * unit)
        about = _usable({tag: exif[tag] for tag in _ABOUT if tag in exif})
        with suppress(Exception):
            inner = exif.get_ifd(_EXIF)
            exposure = _usable({tag: inner[tag] for tag in _EXPOSURE if tag in inner})
        with suppress(Exception):
            place = _usable(dict(exif.get_ifd(_GPS)))
    with suppress(Exception):  # where older versions of impasto put their settings
        if isinstance(json.loads(_of_comment(image)), dict):
            del about[_Tag.Software]
            del exposure[_Tag.UserComment]
    return Metadata(about, exposure, place, _dpi(dpi))


def _usable(values: Mapping[Any, Any]) -> dict[int, Any]:
    """The entries of `values` that can be written again."""
    usable: dict[int, Any] = {}
    for tag, value in values.items():
        if isinstance(value, str) and not value.isascii():
            with suppress(UnicodeEncodeError):  # Pillow decodes UTF-8 as Latin-1
                value = value.encode("latin-1")
        with suppress(Exception):
            exif = Image.Exif()
            exif[int(tag)] = value
            if len(exif.tobytes()) < _LONGEST:
                usable[int(tag)] = value
    return usable


def _dpi(value: Any) -> tuple[float, float] | None:
    with suppress(Exception):
        across, down = (float(number) for number in value)
        if all(math.isfinite(number) and 1 <= number <= 60000 for number in (across, down)):
            return across, down
    return None


def exif_of(source: Metadata | None, keep_gps: bool) -> Image.Exif | None:
    """The EXIF block of a picture that was made from `source`, or None if it is empty.

    It fits in a segment of a JPEG: the longest values are left out until it does.
    """
    if source is None:
        return None
    blocks = [dict(source.about), dict(source.exposure), dict(source.place if keep_gps else {})]
    while any(blocks) or source.dpi:
        exif = Image.Exif()
        exif.update(blocks[0])
        for tag, block in ((_EXIF, blocks[1]), (_GPS, blocks[2])):
            if block:
                exif[tag] = block
        if source.dpi:
            exif[_Tag.XResolution], exif[_Tag.YResolution] = source.dpi
            exif[_Tag.ResolutionUnit] = 2
        if len(exif.tobytes()) < _SEGMENT - 8:
            return exif
        longest = max(
            (len(str(block[tag])), i, tag) for i, block in enumerate(blocks) for tag in block
        )
        del blocks[longest[1]][longest[2]]
    return None


# Settings --------------------------------------------------------------------------------------


def dump(settings: Mapping[str, Any]) -> str:
    """`settings` as JSON in ASCII; values of other types are written as str()."""
    return json.dumps(dict(settings), default=str)


def packet(settings: Mapping[str, Any], room: int | None = None) -> bytes:
    """An XMP packet with `settings`, of at most `room` bytes unless that is None.

    To fit, long texts are cut, other long values are replaced, and the longest entries left out.
    """
    text = dump(settings)
    if room is not None and len(_wrapped(text)) > room:
        shortened = {
            name: value
            if len(dump({"": value})) <= 400
            else value[:200] + "…"
            if isinstance(value, str)
            else "…"
            for name, value in json.loads(text).items()
        }
        sizes = {name: len(escape(dump({name: value}))) for name, value in shortened.items()}
        remaining = room - len(_wrapped("{}"))
        for name in sorted(sizes, key=sizes.__getitem__):
            remaining -= sizes[name]
            if remaining < 0:
                del shortened[name]
        text = dump(shortened)
    return _wrapped(text)


def _wrapped(text: str) -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:{MARK}="{_SPACE}">'
        f"<{MARK}:settings>{escape(text)}</{MARK}:settings>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def room_in_jpeg() -> int:
    """Most bytes of an XMP packet in a JPEG."""
    return _SEGMENT - len(_XMP_HEAD)


def into_jpeg(data: bytes, xmp: bytes) -> bytes:
    """The JPEG file `data` with an XMP packet inserted."""
    position = 2
    while data[position : position + 2] in (b"\xff\xe0", b"\xff\xe1"):  # skip JFIF and EXIF
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    body = _XMP_HEAD + xmp
    segment = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    return data[:position] + segment + data[position:]


def embedded(image: Image.Image) -> dict[str, Any] | None:
    """The settings in the file of `image`, as this or an older version of impasto wrote them."""
    for find in (_of_text, _of_packet, _of_comment):
        with suppress(Exception):  # a damaged block counts as none
            settings = json.loads(find(image))
            if isinstance(settings, dict):
                return settings
    return None


def _of_text(image: Image.Image) -> str:
    if image.format == "GIF":
        mark, _, text = bytes(image.info.get("comment", b"")).decode("ascii").partition(" ")
        return text if mark == MARK else ""
    return str(image.info.get(MARK, "")) if image.format == "PNG" else ""


def _of_packet(image: Image.Image) -> str:
    packets = [
        data.removeprefix(_XMP_HEAD)
        for _, data in getattr(image, "applist", ())
        if data.startswith(_XMP_HEAD)
    ]
    packets += [image.info.get("xmp"), getattr(image, "tag_v2", {}).get(700)]
    for data in packets:
        if isinstance(data, bytes) and _SPACE.encode() in data and b"<!" not in data:
            with suppress(ElementTree.ParseError):
                for node in ElementTree.fromstring(data.strip(b"\0 \r\n")).iter():
                    name = f"{{{_SPACE}}}settings"
                    text = node.text if node.tag == name else node.get(name)
                    if text:
                        return text
    return ""


def _of_comment(image: Image.Image) -> str:
    """The settings in a UserComment, as older versions wrote them if EXIF's Software is impasto."""
    exif = image.getexif()
    if exif.get(_Tag.Software) != MARK:
        return ""
    comment = exif.get_ifd(_EXIF)[_Tag.UserComment]
    return bytes(comment).removeprefix(_COMMENT_HEAD).decode("ascii")
