from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from data import photo, refused
from standins import Card, no_bfloat16, playing
from test_manners import EVERY, style_for

from impasto import device
from impasto.device import choice, memory
from impasto.errors import DeviceError, InputError, lacks_memory
from impasto.methods import load


def test_auto_takes_what_is_there():
    expected = "cuda" if torch.cuda.is_available() else None
    chosen = device.choose_device().type
    assert chosen == (expected or chosen)
    assert device.choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta", ""])
def test_unknown_and_absent_devices_are_refused(name):
    with pytest.raises(DeviceError if name == "cuda:99" else InputError, match="use"):
        device.choose_device(name)


@pytest.mark.parametrize(("fast", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_precision_follows_the_hardware(monkeypatch, fast, dtype):
    monkeypatch.setattr(choice, "_has_fast_bfloat16", lambda d: fast)
    assert device.choose_precision("auto", torch.device("cpu")) == dtype
    assert device.choose_precision("float32", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("abilities", "fast"),
    [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx2": True}, False)],
)
def test_bfloat16_units_are_recognised(monkeypatch, abilities, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    assert choice._has_fast_bfloat16(torch.device("cpu")) is fast


def test_memory_and_description():
    assert device.available_memory(torch.device("cpu")) > 2**20
    assert "CPU" in device.describe(torch.device("cpu"), torch.float32)
    device.tune()


@pytest.mark.parametrize("pixels", [1, 10**8])
def test_sparing_ends_whatever_happens_in_it(pixels):
    with pytest.raises(KeyError), device.sparing(pixels):
        assert torch.rand(300, 1000).sum() > 0
        raise KeyError
    assert torch.rand(300, 1000).sum() > 0


@pytest.mark.skipif(memory._glibc() is None, reason="needs glibc")
def test_sparing_gives_freed_blocks_back():
    device.tune()
    process = psutil.Process()
    with device.sparing(10**8):
        before = process.memory_info().rss
        block = torch.ones(50_000_000)
        assert process.memory_info().rss > before + 150e6
        del block
        assert process.memory_info().rss < before + 50e6


# Cards -----------------------------------------------------------------------------------------


@pytest.fixture
def cards(monkeypatch):
    """Call it with the capabilities of the cards that are there, and what torch has kernels for."""

    def there(*capabilities, kernels=("sm_75", "sm_80", "sm_90")):
        def capability(which):
            return capabilities[getattr(which, "index", which) or 0]

        for name, answer in {
            "is_available": lambda: True,
            "device_count": lambda: len(capabilities),
            "get_device_capability": capability,
            "get_arch_list": lambda: list(kernels),
            "get_device_name": lambda which: f"card {getattr(which, 'index', which)}",
        }.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(choice, "_reported", set())

    return there


def test_auto_passes_over_a_card_without_kernels_and_says_so_once(cards):
    cards((6, 1))
    with pytest.warns(UserWarning, match=r"using the CPU: card 0 has capability 6\.1") as heard:
        assert device.choose_device() == torch.device("cpu")
    assert len(heard) == 1
    assert "7.5, 8.0, 9.0" in str(heard[0].message)
    assert device.choose_device() == torch.device("cpu")  # warnings are errors here


def test_a_card_without_kernels_that_was_asked_for_is_refused(cards):
    cards((8, 6), (6, 1))
    assert device.choose_device("cuda") == torch.device("cuda")
    words = ("cuda:1", "capability 6.1", "install a build for it", "https://", "device='cpu'")
    refused(lambda: device.choose_device("cuda:1"), *words)


def test_the_first_card_that_can_compute_is_taken(cards):
    cards((6, 1), (8, 6), (9, 0))
    assert device.choose_device() == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("capability", "kernels", "computes"),
    [
        ((7, 5), ["sm_75"], True),
        ((7, 0), ["sm_75"], False),
        ((8, 9), ["sm_80"], True),  # of the same major number
        ((9, 0), ["sm_80"], False),
        ((12, 0), ["sm_80", "compute_90"], True),  # PTX
        ((8, 9), ["compute_90"], False),
        ((12, 0), ["sm_120"], True),
        ((12, 0), ["sm_120a"], True),
        ((12, 1), ["sm_120a"], False),  # for that one alone
        ((12, 1), ["sm_120f"], True),  # for its family
        ((9, 0), [], False),
    ],
)
def test_which_kernels_serve_which_card(cards, capability, kernels, computes):
    cards(capability, kernels=kernels)
    assert (device.obstacle(0) is None) == computes


def test_kernels_are_named_in_their_order(cards):
    cards((5, 0), kernels=["sm_120a", "sm_100", "sm_90", "compute_120"])
    assert "has kernels for 9.0, 10.0, 12.0:" in device.obstacle(0)
    cards((5, 0), kernels=[])
    assert "has kernels for no card" in device.obstacle(0)


def test_cards_of_amd_are_left_to_torch(cards, monkeypatch):
    cards((11, 0), kernels=["gfx90a"])
    monkeypatch.setattr(torch.version, "hip", "6.3")
    assert device.obstacle(0) is None
    assert device.choose_device() == torch.device("cuda")


@pytest.fixture
def plain_torch(monkeypatch):
    """A torch without CUDA beside a card of NVIDIA's."""
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(choice.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(choice.sys, "platform", "win32")
    monkeypatch.setattr(choice, "_reported", set())


def test_a_card_that_torch_was_not_built_for_is_noted(plain_torch):
    with pytest.warns(UserWarning, match="built without CUDA: a build with CUDA is at https://"):
        assert device.choose_device() == torch.device("cpu")
    device.choose_device()
    refused(lambda: device.choose_device("cuda"), "built without CUDA", "device='cpu'")


@pytest.mark.parametrize("lack", ["nvidia-smi", "mac", "cuda", "rocm"])
def test_no_card_is_missed_where_there_is_none(plain_torch, monkeypatch, lack):
    assert device.missing_cuda()
    if lack == "nvidia-smi":
        monkeypatch.setattr(choice.shutil, "which", lambda name: None)
    elif lack == "mac":
        monkeypatch.setattr(choice.sys, "platform", "darwin")
    else:
        monkeypatch.setattr(torch.version, "cuda" if lack == "cuda" else "hip", "12.6")
    assert device.missing_cuda() is None
    assert device.choose_device() == torch.device("cpu")


# Precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_bfloat16_is_refused_where_there_is_none(monkeypatch, kind):
    with playing(Card(kind, (no_bfloat16,), capability=(7, 5)), monkeypatch):
        where = device.choose_device()
        assert where.type == kind
        refused(lambda: device.choose_precision("bfloat16", where), "bfloat16", "use float32")
        assert device.choose_precision("auto", where) == torch.float32
    with playing(Card(kind), monkeypatch):
        assert device.choose_precision("bfloat16", device.choose_device()) == torch.bfloat16


@pytest.mark.parametrize("probe", ["_is_amx_tile_supported", "_is_avx512_bf16_supported", None])
def test_bfloat16_units_by_the_names_of_older_torch(monkeypatch, probe):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == probe, raising=False)
    units = {"_is_amx_tile_supported": ["AMX"], "_is_avx512_bf16_supported": ["AVX512-BF16"]}
    assert device.bfloat16_units() == units.get(probe, [])
    assert choice._has_fast_bfloat16(torch.device("cpu")) == (probe is not None)


@pytest.fixture(params=["newer", "older"])
def tf32(request, monkeypatch):
    """Where the settings are, their name, and what is exact."""
    if request.param == "newer":
        conv, matmul = (
            SimpleNamespace(fp32_precision="tf32"),
            SimpleNamespace(fp32_precision="none"),
        )
        cudnn = SimpleNamespace(conv=conv)
        name, exact = "fp32_precision", "ieee"
    else:
        conv = cudnn = SimpleNamespace(allow_tf32=True)
        matmul = SimpleNamespace(allow_tf32=True)
        name, exact = "allow_tf32", False
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    return (conv, matmul), name, exact


def test_full_precision_sets_and_restores(tf32):
    places, name, exact = tf32
    before = [vars(place).copy() for place in places]
    with device.full_precision(torch.device("cpu")):
        assert [vars(place) for place in places] == before
    with device.full_precision(torch.device("cuda")):
        assert [getattr(place, name) for place in places] == [exact, exact]
    assert [vars(place) for place in places] == before
    with pytest.raises(KeyError), device.full_precision(torch.device("cuda", 1)):
        raise KeyError
    assert [vars(place) for place in places] == before


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_full_precision_leaves_torchs_own_settings_as_they_were(precision):
    """Torch refuses to be asked by the older names once the two have come apart."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        settings = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        with device.full_precision(torch.device("cuda")):
            pass
        assert torch.get_float32_matmul_precision() == precision
        assert settings == (
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
        )
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_the_hosts_autocast_ends_at_the_door(monkeypatch, kind):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: kind == "mps")
    with torch.autocast(kind, dtype=torch.float16 if kind == "mps" else torch.bfloat16):
        assert torch.is_autocast_enabled(kind)
        with device.unmixed():
            assert not torch.is_autocast_enabled(kind)
        assert torch.is_autocast_enabled(kind)


def test_numbers_come_back(monkeypatch):
    numbers = torch.tensor([1.5, -2.0])
    get = device.fetched(numbers)
    numbers.zero_()  # the loop goes on
    assert get() == [1.5, -2.0]
    for kind in ("cuda", "mps"):
        with playing(Card(kind), monkeypatch) as card:
            far = torch.tensor([1.5, -2.0], device=kind)
            get = device.fetched(far)
            assert card.waits == []
            far.zero_()
            assert get() == [1.5, -2.0]


# Memory ----------------------------------------------------------------------------------------

GB = 2**30


@pytest.mark.parametrize(
    ("most", "used", "kept", "machine", "there"),
    [
        (10, 2, 0, 20, 8),  # what Metal recommends, less what is in use
        (10, 2, 3, 20, 8),  # torch's own cache counts as free
        (10, 2, 3, 4, 7),  # the machine's memory is shared: what it has, and the cache
        (10, 12, 0, 20, 0),
    ],
)
def test_memory_of_apples_gpu(monkeypatch, most, used, kept, machine, there):
    for name, value in {
        "recommended_max_memory": most,
        "current_allocated_memory": used,
        "driver_allocated_memory": used + kept,
    }.items():
        monkeypatch.setattr(torch.mps, name, lambda value=value: value * GB, raising=False)
    free = SimpleNamespace(available=machine * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    assert device.available_memory(torch.device("mps")) == there * GB


@pytest.fixture
def asked(monkeypatch):
    """The cards whose memory was asked for; they have 1 GB, and torch keeps half a GB for later."""
    found = []

    def ask(where=None):
        found.append(str(where))
        return GB // 2, 8 * GB

    monkeypatch.setattr(torch.cuda, "mem_get_info", ask)
    for name, value in {"memory_reserved": 2 * GB, "memory_allocated": 3 * GB // 2}.items():
        monkeypatch.setattr(
            torch.cuda, name, lambda where, value=value: value * (str(where) == "cuda:1")
        )
    return found


def test_memory_is_asked_of_the_device_in_use(asked):
    assert device.available_memory(torch.device("cuda:1")) == GB
    assert device.available_memory(torch.device("cuda:0")) == GB // 2
    device.check_memory((1024, 1024), 1000, torch.device("cuda:1"))
    message = refused(
        lambda: device.check_memory((2048, 1024), 1000, torch.device("cuda:1")),
        "1024x2048 pixels need about 2.0 GB",
        "1.0 GB are free",
    )
    side = int(re.search(r"size=(\d+)", message)[1])
    device.check_memory((2 * side, side), 1000, torch.device("cuda:1"))
    assert asked == ["cuda:1", "cuda:0", "cuda:1", "cuda:1", "cuda:1"]


@pytest.mark.parametrize("label", EVERY)
def test_every_method_asks_the_card_that_it_is_on(asked, monkeypatch, label):
    name, options = EVERY[label]
    method = load(name, device="cpu", **options)
    style = method.prepare([style_for(name)])
    method.device = torch.device("cuda:1")
    monkeypatch.setattr(method.__class__, "bytes_per_pixel", lambda self: GB, raising=False)
    if hasattr(method, "model"):
        monkeypatch.setattr(method.model, "bytes_per_pixel", lambda dtype: GB)
    refused(lambda: method(photo(), style), "1.0 GB are free")
    assert set(asked) == {"cuda:1"}


@pytest.mark.parametrize(
    "text",
    [
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "Invalid buffer size: 12.50 GB",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1.00 GB)",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    ],
)
def test_all_the_words_for_no_memory(text, run, desk, monkeypatch):
    assert lacks_memory(RuntimeError(text))
    assert not lacks_memory(RuntimeError("CUDNN_STATUS_NOT_SUPPORTED"))

    def fail(*given, **options):
        raise RuntimeError(text)

    monkeypatch.setattr("impasto.methods.adain.AdaIN.__call__", fail)
    given = ["-o", "out.png", "--model", "small.safetensors", "-m", "adain"]
    code, _, said = run("stylize", "photo.png", "painting.png", *given)
    assert code == 2
    assert "out of memory" in said
    assert not Path("out.png").exists()
