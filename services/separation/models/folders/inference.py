"""How a song is cut for a network, as the configurations of Music-Source-Separation-Training say it."""

from dataclasses import dataclass

from services.separation.models.folders.folder import ModelFolder
from services.separation.models.folders.section import Section


@dataclass(frozen=True, slots=True)
class Inference:
    """How a song is cut for the network.

    Args:
        chunk: samples of a segment.
        overlap: overlap of neighbouring segments as a fraction of one.
        normalize: whether the mix is brought to a mean of 0 and a deviation of 1.
        sample_rate_hz: sample rate of mix and stems.
    """

    chunk: int
    overlap: float
    normalize: bool
    sample_rate_hz: int


def inference_config(folder: ModelFolder, least: int = 4096) -> Inference:
    """Reads how a song is cut.

    Args:
        folder: the model's folder.
        least: smallest number of samples that the network can take.

    Raises:
        FolderError: a value is missing or wrong.
    """
    audio, inference = Section(folder, "audio"), Section(folder, "inference")
    section = inference if "chunk_size" in inference else audio
    return Inference(
        chunk=section.number("chunk_size", least=least),
        overlap=1 - 1 / inference.number("num_overlap", 2),
        normalize=inference.flag("normalize", False),
        sample_rate_hz=audio.number("sample_rate", 44_100),
    )
