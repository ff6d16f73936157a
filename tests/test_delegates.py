"""What ran a network, by its log: never what was asked for, and a refusal where the log leaves it open."""

from pathlib import Path

import pytest
from tflite_logs import litert, log, write

from hardware_models.measuring.tflite_log import read_tflite_log
from search_spaces.errors import InvalidInputError

NNAPI, GPU, HEXAGON, XNN = "Use NNAPI: [1]", "Use gpu: [1]", "Use Hexagon: [1]", "Use xnnpack: [1]"
QNN = "External delegate path: [/data/local/tmp/qnn/libQnnTFLiteDelegate.so]"
VX = "External delegate path: [/vendor/lib64/libvx_delegate.so]"
DEFAULT = "Created TensorFlow Lite XNNPACK delegate for CPU."


def fully(name: str) -> str:
    return f"Explicitly applied {name} delegate, and the model graph will be completely executed by the delegate."


def partly(name: str) -> str:
    return (
        f"Explicitly applied {name} delegate, and the model graph will be partially executed by the delegate w/ 2 "
        "delegate kernels."
    )


def unused(name: str) -> str:
    return f"Though {name} delegate is explicitly applied, the model graph will not be executed by the delegate."


def replacing(nodes: int, of: int, kernel: str) -> str:
    return f"Replacing {nodes} out of {of} node(s) with delegate ({kernel}) node, yielding 2 partitions for subgraph 0."


CASES = {
    "nothing asked": ([], "TFLite", ()),
    "XNNPACK by default": ([DEFAULT], "TFLite XNNPACK", ()),
    "XNNPACK asked, some nodes": ([XNN, DEFAULT, partly("XNNPACK")], "TFLite XNNPACK", ()),
    "XNNPACK asked, none": ([XNN, DEFAULT, unused("XNNPACK")], "TFLite", ("XNNPACK",)),
    "XNNPACK by default, none": ([DEFAULT, replacing(0, 31, "TfLiteXNNPackDelegate")], "TFLite", ()),
    "NNAPI all": ([NNAPI, fully("NNAPI")], "TFLite NNAPI", ()),
    "NNAPI some": ([NNAPI, partly("NNAPI")], "TFLite NNAPI CPU", ()),
    "NNAPI some, the rest XNNPACK": (
        [NNAPI, replacing(5, 64, "TfLiteNnapiDelegate"), partly("NNAPI"), replacing(59, 62, "TfLiteXNNPackDelegate")],
        "TFLite NNAPI XNNPACK",
        (),
    ),
    "NNAPI none": ([NNAPI, "NNAPI delegate created.", unused("NNAPI")], "TFLite", ("NNAPI",)),
    # A Pixel's driver takes all nodes and gives them back.
    "NNAPI took nodes and was undone": (
        [NNAPI, replacing(31, 31, "TfLiteNnapiDelegate"), unused("NNAPI"), DEFAULT],
        "TFLite XNNPACK",
        ("NNAPI",),
    ),
    "NNAPI whose only accelerator is the CPU": (
        [NNAPI, "NNAPI accelerators available: [nnapi-reference]", fully("NNAPI")],
        "TFLite NNAPI-reference",
        (),
    ),
    "GPU unsupported": (
        [GPU, "GPU acceleration is unsupported on this platform.", DEFAULT],
        "TFLite XNNPACK",
        ("GPU",),
    ),
    "GPU all": ([GPU, replacing(49, 49, "TfLiteGpuDelegateV2"), fully("GPU")], "TFLite GPU", ()),
    "GPU some": ([GPU, replacing(54, 559, "TfLiteGpuDelegateV2"), partly("GPU"), DEFAULT], "TFLite GPU XNNPACK", ()),
    "GPU all, NNAPI none": ([GPU, NNAPI, fully("GPU"), unused("NNAPI")], "TFLite GPU", ("NNAPI",)),
    "2.2: all": (
        ["Use gpu : [1]", "Applied GPU delegate, and the model graph will be completely executed w/ the delegate."],
        "TFLite GPU",
        (),
    ),
    "2.2: some, by the count of nodes": (
        [
            "Use Hexagon : [1]",
            "Hexagon delegate: 29 nodes delegated out of 31 nodes.",
            "Applied Hexagon delegate, and the model graph will be partially executed w/ the delegate.",
        ],
        "TFLite Hexagon CPU",
        (),
    ),
    "2.2: none, by the count of nodes": (
        [
            "Use Hexagon : [1]",
            "Hexagon delegate: 0 nodes delegated out of 31 nodes.",
            "Applied Hexagon delegate, and the model graph will be partially executed w/ the delegate.",
        ],
        "TFLite",
        ("Hexagon",),
    ),
    "2.2: unasked delegates": (["Use gpu : [0]", "External delegate path : []", "Use nnapi : [0]"], "TFLite", ()),
    "Hexagon missing": (
        [
            HEXAGON,
            "Could not create Hexagon delegate: platform may not support delegate or required libraries are missing",
        ],
        "TFLite",
        ("Hexagon",),
    ),
    "QNN none": (
        [QNN, "TfLiteQnnDelegate delegate: 0 nodes delegated out of 31 nodes with 0 partitions.", unused("EXTERNAL")],
        "TFLite",
        ("QNN",),
    ),
    "QNN some": (
        [QNN, replacing(17, 21, "TfLiteQnnDelegate"), partly("EXTERNAL"), DEFAULT],
        "TFLite QNN XNNPACK",
        (),
    ),
    "QNN all": (
        [QNN, "[Qnn Delegate] QNN delegate: 31 nodes delegated out of 31 nodes with 1 partitions.", fully("EXTERNAL")],
        "TFLite QNN",
        (),
    ),
    "another library": ([VX, fully("EXTERNAL")], "TFLite VX", ()),
    "a library by its kernel": (
        ["EthosuDelegate: 1 nodes delegated out of 1 nodes with 1 partitions.", fully("EXTERNAL")],
        "TFLite ETHOSU",
        (),
    ),
    "an unnamed library": ([fully("EXTERNAL")], "TFLite EXTERNAL", ()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_runtime_is_what_ran(tmp_path: Path, case: str) -> None:
    lines, runtime, missed = CASES[case]
    run = read_tflite_log(write(tmp_path / "run.log", log(*lines)))
    assert (run.runtime, run.missed) == (runtime, missed)


LITERT = {
    "all on the GPU": ([replacing(31, 31, "LITERT_CL")], "LiteRT GPU"),
    "some on the GPU": ([replacing(250, 253, "LITERT_CL"), DEFAULT], "LiteRT GPU XNNPACK"),
    "the NPU": ([replacing(1, 1, "DispatchDelegate")], "LiteRT NPU"),
    "the CPU": ([DEFAULT, replacing(253, 253, "TfLiteXNNPackDelegate")], "LiteRT XNNPACK"),
}


@pytest.mark.parametrize("case", LITERT)
def test_litert_says_it_by_the_nodes_alone(tmp_path: Path, case: str) -> None:
    lines, runtime = LITERT[case]
    assert read_tflite_log(write(tmp_path / "run.log", litert(*lines))).runtime == runtime


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        ([NNAPI], 4),  # asked for, and nothing of what became of it
        ([QNN, "EXTERNAL delegate created."], 4),
        (["Use legacy nnapi : [1]"], 4),
        # TensorFlow 2.2 says `partially` of no node too.
        (
            [
                "Use nnapi : [1]",
                "Applied NNAPI delegate, and the model graph will be partially executed w/ the delegate.",
            ],
            5,
        ),
        ([GPU, replacing(0, 31, "TfLiteGpuDelegateV2"), fully("GPU")], 6),
    ],
)
def test_what_a_log_leaves_open_is_refused_with_its_line(tmp_path: Path, lines: list[str], number: int) -> None:
    with pytest.raises(InvalidInputError, match=rf"run\.log: line {number}: "):
        read_tflite_log(write(tmp_path / "run.log", log(*lines)))
