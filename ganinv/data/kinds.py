"""Which files are images: by the suffix where it says so, else by the first bytes."""

from __future__ import annotations

COMMON = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats of photographs."""

FORMATS = (
    *COMMON, "AVIF", "JPEG2000", "DIB", "ICO", "ICNS", "CUR", "PSD", "QOI", "DDS", "PCX", "DCX", "SGI", "SUN", "XBM", "XPM",
    "FITS", "FLI", "BLP", "FTEX", "GBR", "MSP", "PIXAR", "XVTHUMB",
)  # fmt: skip
"""What Pillow decodes by itself and tells by its first bytes; MPO, of phones, comes with JPEG. Not EPS and WMF, which it would
hand to other programs, and not the kinds that it only names (MPEG, HDF5, GRIB, BUFR)."""

BY_SUFFIX = {
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "PCD": (".pcd",),
    "IM": (".im",),
    "IPTC": (".iim",),
}
"""Formats whose files begin with nothing of their own: random bytes would pass for them, so only their suffixes name them."""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jpe", ".jfif", ".jif", ".avif",
    ".jp2", ".apng", ".avifs", ".blp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits", ".flc", ".fli", ".ftc", ".ftu",
    ".gbr", ".icns", ".ico", ".j2c", ".j2k", ".jpc", ".jpf", ".jpx", ".mpo", ".msp", ".pbm", ".pcx", ".pfm", ".pnm", ".psd",
    ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".xbm", ".xpm", *(s for some in BY_SUFFIX.values() for s in some),
)  # fmt: skip
"""Suffixes of images that can be decoded."""

HEIF_SUFFIXES = (".heic", ".heif", ".hif", ".heics", ".heifs")
_RAW = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw",
    ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
_OTHERS = (
    ".jxl", ".jxr", ".wdp", ".hdp", ".exr", ".hdr", ".svg", ".svgz", ".eps", ".epsf", ".ps", ".ai", ".wmf", ".emf", ".xcf",
    ".kra", ".psb", ".bpg", ".flif", ".djvu", ".djv", ".cdr", ".dpx", ".cin", ".jls", ".pict", ".pct", ".dcm",
)  # fmt: skip
UNSUPPORTED_SUFFIXES = (*_RAW, *_OTHERS)
"""Suffixes of images that cannot be decoded here. A camera's raw file is mostly a TIFF whose first picture is a thumbnail, so
these are not even tried."""

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip", ".7z", ".rar", ".gz", ".bz2",
                    ".xz", ".zst")  # fmt: skip
OTHER_SUFFIXES = frozenset((
    ".txt", ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".md", ".rst",
    ".html", ".htm", ".css", ".js", ".py", ".ipynb", ".sh", ".log", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".npy", ".npz",
    ".pt", ".pth", ".pkl", ".pickle", ".safetensors", ".h5", ".hdf", ".hdf5", ".mat", ".arrow", ".feather", ".db", ".sqlite",
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".mp3", ".wav", ".flac", ".ogg", ".cls", ".cls2", ".idx",
    ".lock", ".md5", ".sha256", ".sha1", ".crc", ".xmp", ".aae", ".thm", ".pts", ".part", ".crdownload", ".tmp",
))  # fmt: skip
"""Suffixes that say: no image. Such files are not opened."""

HEAD = 32
"""Bytes that :func:`begins_as_image` looks at."""

_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51", b"8BPS", b"qoif", b"DDS ", b"icns", b"P4\n", b"P5\n", b"P6\n", b"P5 ", b"P6 ", b"SIMPLE  =",
)  # fmt: skip
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def suffix_of(path: str) -> str:
    """The last suffix, small letters, with its dot; empty if a name has none."""
    name = path.rpartition("/")[2]
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if dot and stem else ""


def is_image(path: str) -> bool:
    """By its suffix; also of images that cannot be decoded, which become error rows."""
    return suffix_of(path) in _ALL


def is_archive(path: str) -> bool:
    return path.lower().endswith(ARCHIVE_SUFFIXES)


def says_nothing(path: str) -> bool:
    """Whether the first bytes have to tell: no suffix, or one that is nobody's (``photo.v2``, the hash of a cache)."""
    return suffix_of(path) not in _KNOWN and not is_archive(path)


def begins_as_image(head: bytes) -> bool:
    """Whether the first :data:`HEAD` bytes of a file are those of an image."""
    if head.startswith(_MAGIC) or is_heif(head) or (head[4:8] == b"ftyp" and head[8:12] in _BRANDS):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    # Two letters are not enough for a bitmap: its header has a size of 12 to 124 bytes.
    return (
        head[:2] == b"BM"
        and head[15:18] == b"\0\0\0"
        and head[14:15] in (b"\x0c", b"\x28", b"\x38", b"\x40", b"\x6c", b"\x7c")
    )


def is_heif(head: bytes) -> bool:
    """HEIC, as phones write it."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS[2:] and b"avif" not in head[16:]


_ALL = frozenset((*IMAGE_SUFFIXES, *HEIF_SUFFIXES, *UNSUPPORTED_SUFFIXES))
_KNOWN = _ALL | OTHER_SUFFIXES | {".parquet", ".pq", ".tar"}
