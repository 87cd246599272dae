"""Sessions of ONNX Runtime: choice of the provider, and a check of the graph's inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from milvus_fghash.bundle.bundle import Bundle
from milvus_fghash.core.codes import code_bytes
from milvus_fghash.core.onnx_runtime import load_runtime
from milvus_fghash.errors import BundleError, ConfigError, nearest, one_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}  # TF32 would flip bits near zero
DEFAULT_ORDER = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""Order of preference when no provider is given; others change the numbers or need a configuration of their own."""


def open_session(bundle: Bundle, provider: str | None = None, threads: int = 0) -> InferenceSession:
    """Load the verified bytes of a bundle's graph.

    Args:
        provider: such as "cpu", "cuda" or CUDAExecutionProvider. None: CUDA where it works, otherwise the CPU.
        threads: CPU threads that compute one batch together; 0 lets ONNX Runtime choose.

    Raises:
        BundleError: when the graph cannot be loaded, or its inputs and outputs are not those of an encoder.
        ConfigError: when the provider is unknown or does not start.
        MissingExtra: when there is no ONNX Runtime.
    """
    runtime = load_runtime()
    chosen = choose_provider(provider, runtime.get_available_providers())
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the decoders need the cores
    options.log_severity_level = 4  # what matters is raised
    wanted = [(name, OPTIONS.get(name, {})) for name in dict.fromkeys((chosen, "CPUExecutionProvider"))]
    try:
        session: InferenceSession = runtime.InferenceSession(bundle.graph(), options, providers=wanted)
    except BundleError:
        raise
    except Exception as error:  # the exceptions of ONNX Runtime have no common class
        raise BundleError(f"ONNX Runtime cannot load the graph of {bundle.path}: {one_line(error)}") from error
    if provider is not None and session.get_providers()[0] != chosen:
        raise ConfigError(
            f"{chosen} does not start on this machine; is the GPU driver installed? Or use the provider cpu",
            setting="provider",
        )
    _check_interface(session, bundle)
    return session


def choose_provider(asked: str | None, available: list[str]) -> str:
    """The full name of a provider that is given in any case, with or without `ExecutionProvider`.

    >>> choose_provider("cpu", ["CPUExecutionProvider"])
    'CPUExecutionProvider'

    Raises:
        ConfigError: when it is not among the available ones.
    """
    if asked is None:
        return next((name for name in DEFAULT_ORDER if name in available), available[0])
    short = {name.lower().removesuffix("executionprovider"): name for name in available}
    try:
        return short[asked.lower().removesuffix("executionprovider")]
    except KeyError:
        raise ConfigError(
            f"this ONNX Runtime has no provider {asked!r}. {nearest(asked.lower(), short)} "
            "CUDA needs pip install 'milvus-fghash[gpu]'"
        ) from None


def _check_interface(session: InferenceSession, bundle: Bundle) -> None:
    """Check names, types and shapes; sizes that the graph leaves open are checked on its outputs."""
    manifest = bundle.manifest
    side = manifest.preprocessing.size
    given = {one.name: (one.type, one.shape) for one in (*session.get_inputs(), *session.get_outputs())}
    wanted = {
        "images": ("tensor(uint8)", [None, side, side, 3]),
        "logits": ("tensor(float)", [None, manifest.bits]),
        "codes": ("tensor(uint8)", [None, code_bytes(manifest.bits)]),
    }
    if [one.name for one in session.get_inputs()] != ["images"] or not {"logits", "codes"} <= set(given):
        raise BundleError(
            f"the graph of {bundle.path} has inputs and outputs {', '.join(given)}; "
            "expected the input images and the outputs logits and codes"
        )
    for name, (kind, shape) in wanted.items():
        got_kind, got_shape = given[name]
        if got_kind != kind or len(got_shape) != len(shape) or not all(map(_may_be, got_shape, shape)):
            raise BundleError(
                f"{name} in the graph of {bundle.path} is {got_kind} of shape {got_shape}; expected {kind} of shape "
                f"{['batch', *shape[1:]]}"
            )


def _may_be(got: int | str | None, wanted: int | None) -> bool:
    return not isinstance(got, int) if wanted is None else got == wanted or not isinstance(got, int)
