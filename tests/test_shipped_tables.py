"""Look-up tables as their projects ship them, by their first lines: what they say, and a refusal of what is damaged."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from console import CALIBRATE, console, done
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wrong_cells import wrong_cells

from hardware_models.measuring.measurements import IMPORTERS, Measurements
from hardware_models.profile import load_profile
from search_spaces.errors import InvalidInputError
from search_spaces.operation import parse_operation

# han-cai/files, proxylessnas/mobile_trim.yaml
PROXYLESS = """Conv-input:224x224x3-output:112x112x32:
  count: 982
  mean: 4.083755600814664
  std: 0.5002372309972967
Logits-input:7x7x1280-output:1000: {count: 982, mean: 0.3096415478615071, std: 0.23629995094430492}
expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0:
  count: 164
  mean: 6.240567073170731
  std: 0.27075434409656396
"""
# han-cai/files, ofa/note10/160_lookup_table.yaml
OFA = """AvgPool2D-input:5x5x1152-output:1x1x1152:
  count: 491
  mean: 0.008482688391038698
  std: 0.0006733248071883371
expanded_conv-input:10x10x136-output:10x10x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:1:
  count: 100
  mean: 0.86918
  std: 0.013281099352086765
"""
# microsoft/nn-Meter, branch dev/hybrid-transformer, transformer_predictor/lut/pixel6_lut_ln_v3.json
NN_METER = """{
    "firstconv_128_3_16_2_3": 0.0966134,
    "conv_64_16_16_1_1_hard_swish_5_nose": 0.26957299999999995,
    "conv_64_16_24_2_2_hard_swish_3_nose": 0.229765,
    "transds_10_104_144_2_4": 0.272562,
    "transattn_10_104_hard_swish_2_ln": 0.566376,
    "transffn_10_104_2_hard_swish_ln": 0.244151,
    "mbpool_2_160_1984_6_hard_swish": 0.750937
}
"""
# PaddlePaddle/PaddleDetection, slim/nas/latency_855.txt
PADDLE_SLIM = """op_type\t855\tus
conv,0,0,1,3,640,640,8,1,3,1,2,1\t2433
conv,0,0,1,8,320,320,8,8,3,1,1,1\t1053
conv,0,0,1,8,320,320,8,1,1,0,1,1\t1462
"""
# PaddlePaddle/Paddle-Lite, lite/tests/benchmark/latency_lookup_table.txt
PADDLE_LITE = (
    "dev_info                      \tarmv7/v8  \tcore_num  \tthread_num\tpower_mode\tcore0 arch\tcore1 arch\n"
    "Hisilicon Kirin980            \tarmv8     \t8         \t1         \tARM_A55  \tARM_A55  \n"
    "op_name   \tinput_dims\toutput_dims\tparam_info     \tmin_latency(ms)\tmax_latency(ms)\tavg_latency(ms)\n"
    "conv      \t[1 96 112 112]\t[1 48 114 114]\t(ch_out=48,stride=[1 1],pad=[0 0 0 0],kernel=1x1,group=1,"
    "dilation=[1 1],flag_bias=0,flag_act=0,dtype=float)\t3.472     \t5.384     \t3.97393   \n"
    "fc        \t[4 8]     \t[4 1000]  \t(param_dim=8x1000,flag_bias=1,dtype=float)\t0.009    \t0.023   \t0.00951   \n"
    "batchnorm \t[1 8 64 64]\t[1 8 64 64]\t(epsilon=1e-4f,momentum=0.9f,dtype=float)\t0.01   \t0.012     \t0.0114    \n"
    "pooling   \t[1 8 64 64]\t[1 8 32 32]\t(stride=[2 2],pad=[0 0 0 0],kernel=2x2,ceil_mode=0,flag_global=0,"
    "exclusive=0,pooling_type=avg,dtype=float)\t0.009     \t0.01      \t0.00969   \n"
    "activation\t[1 8 64 64]\t[1 8 64 64]\t(act_type=relu,dtype=float)   \t0.01      \t0.028     \t0.01098   \n"
)
# Tencent/ncnn, benchmark/README.md
NCNN = """OnePlus7T:/data/local/tmp $ ./benchncnn 8 4 2 -1 1
[0 Adreno (TM) 640]  queueC=0[3]  queueG=0[3]  queueT=0[3]
loop_count = 8
num_threads = 4
powersave = 2
gpu_device = -1
cooling_down = 1
          squeezenet  min =    3.60  max =    3.70  avg =    3.64
     squeezenet_int8  min =    3.67  max =    3.78  avg =    3.71
           mobilenet  min =    5.32  max =    5.42  avg =    5.38
           nanodet_m  min =    8.93  max =    9.00  avg =    8.96
            resnet18  min =   10.33  max =   10.36  avg =   10.35
OnePlus7T:/data/local/tmp $
"""
# GATECH-EIC/HW-NAS-Bench, HW-NAS-Bench-v1_0.pickle, of which some entries
HW_NAS_BENCH: dict[str, dict[str, Any]] = {
    "nasbench201": {"cifar10": {"pixel3_latency": np.array([3.6]), "config": [{"name": "infer.tiny"}]}},
    "fbnet": {
        "edgegpu_latency": {
            "ConvNorm_H32_W32_Cin3_Cout16_kernel3_stride1_group1": np.float64(0.5),
            "ConvBlock_H112_W112_Cin16_Cout16_exp1_kernel3_stride1_group2": 1.0367605686187744,
            "ConvBlock_H112_W112_Cin16_Cout24_exp3_kernel5_stride2_group1": 1.0908071994781494,
            "Skip_H32_W32_Cin16_Cout16_stride1": 0.001,
            "AvgP_H4_W4_Cin1504_Cout1504_kernel4_stride1": 0.0,
            "FC_Cin1504_Cout100": 0.25,
        },
        "edgegpu_energy": {"FC_Cin1504_Cout100": 2.5},
        "fpga_latency": {"FC_Cin1504_Cout100": 0.0},
    },
}


def read(folder: Path, name: str, content: str | bytes, device: str | None = None) -> Measurements:
    path = folder / "table"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return IMPORTERS[name](path, device=device)


def rows(measurements: Measurements) -> list[tuple[int, float, list[str]]]:
    """Line, milliseconds and operations of each row."""
    return [(row.line, row.latency_ms, [op.notation for op in row.operations]) for row in measurements.rows]


def test_proxylessnas_and_ofa_ship_yaml(tmp_path: Path) -> None:
    assert rows(read(tmp_path, "ofa", PROXYLESS)) == [
        (1, 4.083755600814664, ["conv 3x224x224 -> 32x112x112 k3 s2"]),
        (5, 0.3096415478615071, ["global_pool 1280x7x7 -> 1280x1x1", "linear 1280x1x1 -> 1000x1x1"]),
        (
            6,
            6.240567073170731,
            ["conv 16x112x112 -> 48x112x112", "conv 48x112x112 -> 48x56x56 k3 s2 g48", "conv 48x56x56 -> 24x56x56"],
        ),
    ]
    (pool, block) = rows(read(tmp_path, "ofa", OFA))
    assert pool == (1, 0.008482688391038698, ["global_pool 1152x5x5 -> 1152x1x1"])
    # 408 hidden channels; squeeze-excite over 408 / 4, rounded to eights: 104.
    assert block[:2] == (5, 0.86918) and block[2][0] == "conv 136x10x10 -> 408x10x10"
    assert "conv 408x1x1 -> 104x1x1" in block[2] and block[2][-1] == "add 136x10x10 -> 136x10x10"


def test_nn_meter_ships_json(tmp_path: Path) -> None:
    found = rows(read(tmp_path, "phones", NN_METER))
    assert [(line, ms) for line, ms, _ in found] == [
        *((2, 0.0966134), (3, 0.26957299999999995), (4, 0.229765), (5, 0.272562), (8, 0.750937)),
    ]
    assert found[0][2] == ["conv 3x128x128 -> 16x64x64 k3 s2"]
    assert found[1][2] == [
        *("conv 16x64x64 -> 16x64x64", "conv 16x64x64 -> 16x64x64 k5 g16", "conv 16x64x64 -> 16x64x64"),
        "add 16x64x64 -> 16x64x64",
    ]
    assert found[2][2][1] == "conv 32x64x64 -> 32x32x32 k3 s2 g32"
    one_line = read(tmp_path, "phones", NN_METER.replace("\n", ""))
    assert [row.latency_ms for row in one_line.rows] == [ms for _, ms, _ in found]


def test_paddledetection_ships_microseconds(tmp_path: Path) -> None:
    measurements = read(tmp_path, "paddlelite", PADDLE_SLIM)
    assert rows(measurements) == [
        (2, 2.433, ["conv 3x640x640 -> 8x320x320 k3 s2"]),
        (3, 1.053, ["conv 8x320x320 -> 8x320x320 k3 g8"]),
        (4, 1.462, ["conv 8x320x320 -> 8x320x320"]),
    ]
    assert (measurements.subject, measurements.constants["machine"]) == ("operation", "855")
    in_ms = read(tmp_path, "paddlelite", PADDLE_SLIM.replace("\tus", "\tms"))
    assert in_ms.rows[0].latency_ms == 2433.0


def test_paddle_lite_ships_milliseconds_and_output_dims_that_are_wrong(tmp_path: Path) -> None:
    measurements = read(tmp_path, "paddlelite", PADDLE_LITE)
    assert rows(measurements) == [
        (4, 3.97393, ["conv 96x112x112 -> 48x112x112"]),
        (5, 0.00951, ["linear 8x4x1 -> 1000x4x1"]),
        (6, 0.0114, ["batch_norm 8x64x64 -> 8x64x64"]),
        (7, 0.00969, ["avg_pool 8x64x64 -> 8x32x32 k2 s2"]),
    ]
    assert measurements.constants == {"machine": "Hisilicon Kirin980", "threads": "1", "statistic": "mean"}


def test_what_benchncnn_prints_gives_a_profile_in_one_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = console(CALIBRATE, monkeypatch, capsys, tmp_path)
    times_ms = {  # of one Snapdragon 855+, four threads
        **{"squeezenet": 3.64, "mobilenet": 5.38, "mobilenet_v2": 4.68, "mobilenet_v3": 4.18, "shufflenet": 3.33},
        **{"proxylessnasnet": 4.72, "efficientnet_b0": 7.30, "googlenet": 13.12, "resnet18": 10.35, "alexnet": 11.91},
    }
    rows = "".join(f"{name:>20}  min = {ms:7.2f}  max = {ms:7.2f}  avg = {ms:7.2f}\n" for name, ms in times_ms.items())
    Path("benchncnn.txt").write_text("num_threads = 4\ngpu_device = -1\n" + rows)
    done(command("measurements=benchncnn.txt", "format=ncnn", "name=dev"))
    profile = load_profile(Path("hardware/dev.yaml"))
    assert profile.error is not None and profile.error.n == 10 and profile.error.mape < 0.3
    assert (profile.runtime, profile.threads) == ("ncnn", 4)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_benchncnn_prints_networks_whose_layers_are_known(tmp_path: Path, encoding: str) -> None:
    measurements = read(tmp_path, "ncnn", NCNN.encode(encoding))
    assert [(row.name, row.latency_ms, row.line) for row in measurements.rows] == [
        *(("squeezenet", 3.64, 8), ("mobilenet", 5.38, 10), ("resnet18", 10.35, 12)),
    ]
    assert measurements.constants == {"runtime": "ncnn", "threads": "4", "statistic": "mean"}
    # Multiply-adds of ncnn's param files, as counted from the data folder.
    assert [sum(op.macs for op in row.operations) for row in measurements.rows] == [418467520, 568740352, 1826918400]
    on_gpu = read(tmp_path, "ncnn", NCNN.replace("gpu_device = -1", "gpu_device = 0"))
    assert on_gpu.constants["runtime"] != "ncnn"


def test_old_versions_of_benchncnn_have_fewer_settings_and_other_names(tmp_path: Path) -> None:
    old = "loop_count = 8\npowersave = 0\n  squeezenet-ssd  min =   66.86  max =   75.74  avg =   68.65\n"
    assert [row.name for row in read(tmp_path, "ncnn", old).rows] == ["squeezenet_ssd"]


def test_hw_nas_bench_ships_a_pickle_with_a_table_for_each_device(tmp_path: Path) -> None:
    found = rows(read(tmp_path, "fbnet", pickle.dumps(HW_NAS_BENCH, protocol=3), device="edgegpu"))
    assert [(number, ms) for number, ms, _ in found] == [
        *((1, 0.5), (2, 1.0367605686187744), (3, 1.0908071994781494), (6, 0.25))
    ]
    assert found[1][2] == [
        *("conv 16x112x112 -> 16x112x112 g2", "conv 16x112x112 -> 16x112x112 k3 g16"),
        *("conv 16x112x112 -> 16x112x112 g2", "add 16x112x112 -> 16x112x112"),
    ]
    assert found[2][2] == [
        *("conv 16x112x112 -> 48x112x112", "conv 48x112x112 -> 48x56x56 k5 s2 g48", "conv 48x56x56 -> 24x56x56"),
    ]
    assert found[3][2] == ["linear 1504x1x1 -> 100x1x1"]


class Code:
    """What a pickle could run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    content = pickle.dumps({"fbnet": {"pixel3_latency": Code(tmp_path / "made")}})
    with pytest.raises(InvalidInputError, match="mkdir"):
        read(tmp_path, "fbnet", content, device="pixel3")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("device", [None, "phone", "edgegpu_energy"])
def test_a_device_that_the_pickle_has_not_is_refused_with_those_it_has(tmp_path: Path, device: str | None) -> None:
    with pytest.raises(InvalidInputError, match="edgegpu, fpga") as caught:
        read(tmp_path, "fbnet", pickle.dumps(HW_NAS_BENCH), device=device)
    assert caught.value.fields == ("device",)


def damaged(table: Mapping[str, Any]) -> bytes:
    return pickle.dumps({"fbnet": {"pixel3_latency": table}})


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (pickle.dumps(HW_NAS_BENCH)[:-100], "pickle"),
        (pickle.dumps([1, 2]), "fbnet"),
        (pickle.dumps({"fbnet": {"pixel3_latency": 5}}), "pixel3_latency"),
        (damaged({"Dense_Cin4_Cout4": 1.0}), "entry 1: kind: "),
        (damaged({"FC_Cin4_Cout4": "fast"}), "entry 1: time: "),
        (damaged({"FC_Cin4_Cout4": -1.0}), "entry 1: time: "),
        (damaged({"ConvBlock_H4_W4_Cin4_Cout4_exp1_stride1": 1.0}), "entry 1: kernel: "),
        (damaged({"Skip_H4_W4_Cin4_Cout4_stride1": 1.0}), "table"),
    ],
)
def test_a_damaged_pickle_is_refused_with_its_entry(tmp_path: Path, content: bytes, word: str) -> None:
    with pytest.raises(InvalidInputError, match=word):
        read(tmp_path, "fbnet", content, device="pixel3")


TEXTS = {
    "proxyless": ("ofa", PROXYLESS),
    "ofa": ("ofa", OFA),
    "nn_meter": ("phones", NN_METER),
    "paddle_slim": ("paddlelite", PADDLE_SLIM),
    "paddle_lite": ("paddlelite", PADDLE_LITE),
    "ncnn": ("ncnn", NCNN),
}


@pytest.mark.parametrize(
    ("table", "old", "new", "wrong"),
    [
        ("proxyless", "  mean: 4.08", "  median: 4.08", [(1, "time")]),
        ("proxyless", "mean: 6.240567073170731", "mean: -6.2", [(6, "time")]),
        ("proxyless", "Logits-input", "Pool-input", [(5, "op")]),
        ("proxyless", "-expand:3", "", [(6, "expand")]),
        ("proxyless", "-expand:3", "-expansion:3", [(6, "op"), (6, "input"), (6, "output")]),
        ("proxyless", "{count: 982,", "{count: 982", [(5, "")]),
        ("ofa", "5x5x1152-output", "5x5-output", [(1, "input")]),
        ("nn_meter", ": 0.229765", ": null", [(4, "time")]),
        ("nn_meter", "hard_swish_3_nose", "hard_swish_3", [(4, "kind"), (4, "hw"), (4, "cin"), (4, "cout")]),
        ("nn_meter", "conv_64_16_16_1_1_hard_swish_5_nose", "firstconv_128_3_16_2_3", [(3, "")]),
        ("nn_meter", "0.272562,", "0.272562", [(6, "")]),
        ("paddle_slim", "\tus", "\ts", [(1, "")]),
        ("paddle_slim", "op_type\t855\tus\n", "", [(1, "")]),
        ("paddle_slim", "\t1053", "", [(3, "")]),
        ("paddle_slim", "\t1053", "\tfast", [(3, "time")]),
        ("paddle_slim", "8,8,3,1,1,1\t", "8,8,3,1,1\t", [(3, "")]),
        ("paddle_slim", "conv,0,0,1,8,320,320,8,1,", "deconv,0,0,1,8,320,320,8,1,", [(4, "")]),
        ("paddle_slim", "conv,0,0,1,3", "conv,0,0,4,3", [(2, "n")]),
        ("paddle_slim", "8,320,320,8,1,1,0,1,1", "8,320,320,8,8,3,1,1,1", [(4, "")]),
        ("paddle_lite", "dtype=float)\t3.472     \t", "dtype=float)\t", [(4, "")]),
        ("paddle_lite", "pad=[0 0 0 0],kernel=1x1", "pad=[0 1 0 1],kernel=1x1", [(4, "pad")]),
        ("paddle_lite", "dtype=float)\t3.472", "dtype=int8_int8)\t3.472", [(4, "dtype")]),
        ("paddle_lite", "[1 96 112 112]", "[96 112 112]", [(4, "")]),
        ("ncnn", "avg =    5.38", "avg =", [(10, "")]),
        ("ncnn", "max =    5.42", "max =    5.32", [(10, "")]),
        ("ncnn", "min =    5.32  max =    5.42  avg =    5.38", "min = 0.00  max = 0.00  avg = 0.00", [(10, "")]),
        ("ncnn", "     squeezenet_int8  min", "fopen x.param failed\n     squeezenet_int8  min", [(9, "")]),
        ("ncnn", "          mobilenet ", "         squeezenet ", [(8, ""), (10, "")]),
        ("ncnn", "powersave = 2\n", "num_threads = 1\n", [(4, ""), (5, "")]),
    ],
)
def test_what_is_damaged_is_refused_with_its_line(
    tmp_path: Path, table: str, old: str, new: str, wrong: list[tuple[int, str]]
) -> None:
    name, text = TEXTS[table]
    assert old in text
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path, name, text.replace(old, new))
    assert wrong_cells(caught.value) == wrong


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ncnn", "my_net  min = 1.00  max = 1.00  avg = 1.00\n"),
        ("ncnn", "resnet18_int8  min = 1.00  max = 1.00  avg = 1.00\n"),
        ("ncnn", "nothing"),
        ("phones", '{"id": "resnet18_0", "cortexA76cpu_tflite21": 300.1, "graph": {}}\n{"id": "resnet18_1"}\n'),
        ("ofa", "- 1\n- 2: 3\n"),
        ("ofa", "? [a]\n: 1\n"),
        ("ofa", "a: " + "[" * 10_000),
        ("paddlelite", "\n\n"),
    ],
)
def test_a_table_of_another_kind_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(InvalidInputError, match="table"):
        read(tmp_path, name, text)


@pytest.mark.parametrize("name", ["ofa", "phones", "paddlelite", "ncnn"])
def test_a_table_of_one_device_is_of_no_other(tmp_path: Path, name: str) -> None:
    text = next(text for importer, text in TEXTS.values() if importer == name)
    with pytest.raises(InvalidInputError) as caught:
        read(tmp_path, name, text, device="pixel6")
    assert caught.value.fields == ("device",)


@pytest.mark.parametrize("table", TEXTS)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_gives_times_that_stand_in_it_or_a_clear_error(
    tmp_path: Path, table: str, data: st.DataObject
) -> None:
    name, text = TEXTS[table]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    piece = data.draw(
        st.text(st.characters(blacklist_categories=("Cs",)), max_size=6) | st.sampled_from("\t0 :,-{}[\n")
    )
    changed = text[:start] + piece + text[end:]
    try:
        found = read(tmp_path, name, changed)
    except InvalidInputError:
        return
    lines = changed.split("\n")
    assert all(0 < row.latency_ms < 1e9 for row in found.rows)
    assert all(1 <= row.line <= len(lines) for row in found.rows)
    assert all(parse_operation(op.notation) == op for row in found.rows for op in row.operations)
