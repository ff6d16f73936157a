"""Run by a Python that has litert-torch, not by Espalier's, of which it imports nothing: makes a .tflite, or runs one.

    python litert_worker.py convert network.pt2 network.tflite [calibration.npy]
    python litert_worker.py run network.tflite images.npy outputs.npy times.npy threads warmup repeats

`network.pt2` is a program of torch.export with one input, float32 (1, K, height, width); with images to calibrate with,
its weights and activations become int8. Images are (N, K, height, width), outputs (N, classes), times in ms.
"""

# Shapes: N images, K channels of the network.

import sys
import time

import numpy as np


def convert(program: str, target: str, calibration: str = "") -> None:
    import litert_torch
    import torch

    exported = torch.export.load(program)
    inputs, _ = exported.example_inputs
    made = f"{target}.fp32" if calibration else target  # which lies in memory while it is quantised
    litert_torch.convert(exported.module(), tuple(inputs)).export(made)
    if calibration:
        quantise(made, target, np.load(calibration))


def quantise(path: str, target: str, images: np.ndarray) -> None:
    """Makes a file of int8, of which input and output stay float32."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import qtyping, quantizer, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.calibrator import CalibrationInterpreter, CalibrationMode
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    (signature,) = Interpreter(model_path=path).get_signature_list().items()
    name, (given,) = signature[0], signature[1]["inputs"]
    quantised = quantizer.Quantizer(path, recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        quantised.update_quantization_recipe(regex=".*", operation_name=end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    # Quantizer.calibrate takes moving averages of the ranges, which clip: outputs then differ nine times as much.
    observed = CalibrationInterpreter(path, mode=CalibrationMode.CALIBRATION, qsv_update_func=min_max_update)
    calibrate = observed.get_signature_runner(name)
    for x in images:
        calibrate(**{given: x[None]})
    with open(target, "wb") as file:
        file.write(quantised.quantize(observed.get_calibration_results()).quantized_model)


def run(model: str, source: str, target: str, times: str, threads: str, warmup: str, repeats: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=int(threads))
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def output_of(x: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(given, x[None])
        interpreter.invoke()
        return np.array(interpreter.get_tensor(made))

    images, times_ms = np.load(source, mmap_mode="r"), []
    np.save(target, np.concatenate([output_of(x) for x in images]))
    for _ in range(int(warmup) + int(repeats)):
        started = time.perf_counter()
        output_of(images[0])
        times_ms.append(1e3 * (time.perf_counter() - started))
    np.save(times, np.array(times_ms[int(warmup) :]))


if __name__ == "__main__":
    if sys.argv[1] == "convert":
        convert(*sys.argv[2:])
    else:
        run(*sys.argv[2:])
