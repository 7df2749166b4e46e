"""Captions pictures, reads and finds them and answers questions on the device: the public names of the package."""

from mobile_multimodal.errors import (
    AccessError,
    DeadlineExceededError,
    DrainingError,
    FrameSourceError,
    GalleryFormatError,
    ImageTooLargeError,
    InternalError,
    InvalidImageError,
    InvalidInputError,
    MissingExtraError,
    MobileMultiModalError,
    ModelFormatError,
    ModelNotFoundError,
    NotFoundError,
    OperationCancelledError,
    OutOfMemoryError,
    PermissionDeniedError,
    QueueFullError,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    WorkerLostError,
)
from mobile_multimodal.images import ImageSource, load_image
from mobile_multimodal.model.hub import available_models, find_model
from mobile_multimodal.model.inference_config import InferenceConfig
from mobile_multimodal.settings import PROFILES, GenerationSettings, OcrSettings, Profile
from mobile_multimodal.tasks.cancellation import Cancellation
from mobile_multimodal.tasks.caption import Caption, CaptionPiece, CaptionStream
from mobile_multimodal.tasks.frames import FrameResult, FrameStatistics, FrameStream
from mobile_multimodal.tasks.language import Answer
from mobile_multimodal.tasks.latency_budget import BudgetOutcome, BudgetStatistics
from mobile_multimodal.tasks.model_budgets import CalibratedPoint
from mobile_multimodal.tasks.multimodal_llm import MobileMultiModalLLM
from mobile_multimodal.tasks.ocr import OcrLine, OcrResult
from mobile_multimodal.tasks.performance import FeatureCacheStatistics, PerformanceMetrics, TaskMetrics
from mobile_multimodal.tasks.shared_session import HealthStatus
from mobile_multimodal.tasks.text import GeneratedText, TextPiece, TextStream
from mobile_multimodal.tasks.text_settings import TextSettings

__version__ = "0.1.0"  # pyproject.toml reads it from here: asking importlib.metadata would cost 20 ms at start

__all__ = [
    "PROFILES",
    "AccessError",
    "Answer",
    "BudgetOutcome",
    "BudgetStatistics",
    "CalibratedPoint",
    "Cancellation",
    "Caption",
    "CaptionPiece",
    "CaptionStream",
    "DeadlineExceededError",
    "DrainingError",
    "FeatureCacheStatistics",
    "FrameResult",
    "FrameSourceError",
    "FrameStatistics",
    "FrameStream",
    "GalleryFormatError",
    "GeneratedText",
    "GenerationSettings",
    "HealthStatus",
    "ImageSource",
    "ImageTooLargeError",
    "InferenceConfig",
    "InternalError",
    "InvalidImageError",
    "InvalidInputError",
    "MissingExtraError",
    "MobileMultiModalError",
    "MobileMultiModalLLM",
    "ModelFormatError",
    "ModelNotFoundError",
    "NotFoundError",
    "OcrLine",
    "OcrResult",
    "OcrSettings",
    "OperationCancelledError",
    "OutOfMemoryError",
    "PerformanceMetrics",
    "PermissionDeniedError",
    "Profile",
    "QueueFullError",
    "RateLimitedError",
    "TaskMetrics",
    "TextPiece",
    "TextSettings",
    "TextStream",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "WorkerLostError",
    "__version__",
    "available_models",
    "find_model",
    "load_image",
]
