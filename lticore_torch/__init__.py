"""Compressible state-space layers for PyTorch.

model = SequenceClassifier(SequenceClassifierConfig(1, 10, features=32, order=64, depth=2))
penalty = HankelRegularizer(1e-3)
loss = cross_entropy(model(x), y) + penalty(model)      # train as usual
small, report = compress(model, ratio=0.9)              # one call; the report states its bounds
"""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "lticore_torch needs PyTorch: pip install 'lticore[torch]'"
    ) from error

from .certificates.certify import output_error_bound
from .compression.compress import compress
from .compression.in_training import InTrainingCompressor, ReductionEvent
from .compression.outlook import LayerOutlook
from .compression.plan import CompressionPlan, analyze
from .compression.report import CompressionReport, LayerReport
from .conversion.convert import convert
from .conversion.registry import ConversionError, register_conversion
from .conversion.report import ConversionReport, ConvertedLayer
from .deploy.export import export_onnx, export_program
from .deploy.stream import Stream
from .layers import (
    LRU,
    S4D,
    S5,
    Bidirectional,
    QuadraticSSM,
    RotationSSM,
    SelectiveSSM,
    SSMLayer,
    ssm_layers,
)
from .layers.parameter_groups import parameter_groups
from .models.blocks import SequenceBlock, SequenceClassifier, SequenceClassifierConfig
from .ops.fused import half_glu
from .ops.recurrence import linear_recurrence, time_varying_recurrence
from .ops.spectral import spectral_sum
from .ops.system_map import state_space_map
from .penalties.regularize import (
    HankelRegularizer,
    Regularizer,
    hankel_mean,
    hankel_sum,
    magnitude_sum,
    modal_mean,
)
from .penalties.tracking import HankelRecord, HankelTracker
from .storage import ModelFileError, export_arrays, load, save

__all__ = [
    "RotationSSM",
    "LRU",
    "S5",
    "S4D",
    "QuadraticSSM",
    "SelectiveSSM",
    "Bidirectional",
    "SSMLayer",
    "ssm_layers",
    "parameter_groups",
    "SequenceBlock",
    "SequenceClassifier",
    "SequenceClassifierConfig",
    "hankel_sum",
    "hankel_mean",
    "modal_mean",
    "magnitude_sum",
    "HankelRegularizer",
    "Regularizer",
    "analyze",
    "CompressionPlan",
    "LayerOutlook",
    "compress",
    "CompressionReport",
    "LayerReport",
    "output_error_bound",
    "InTrainingCompressor",
    "ReductionEvent",
    "HankelTracker",
    "HankelRecord",
    "Stream",
    "convert",
    "register_conversion",
    "ConversionReport",
    "ConvertedLayer",
    "ConversionError",
    "export_program",
    "export_onnx",
    "save",
    "load",
    "export_arrays",
    "ModelFileError",
    "linear_recurrence",
    "time_varying_recurrence",
    "state_space_map",
    "half_glu",
    "spectral_sum",
]
