"""Makes the sentences that tell how popular a picture is with any sentence (see compile/popularity.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mobile_multimodal.compile.popularity import BETA
from mobile_multimodal.training.language_model import RetrievalModel
from mobile_multimodal.training.language_text import TextStates
from mobile_multimodal.training.picture_features import PictureFeatures


@torch.no_grad()
def popularity_weights(
    model: RetrievalModel,
    states: TextStates,
    captions: Mapping[str, Sequence[str]],
    pictures: PictureFeatures,
    ordinary: Sequence[str],
) -> dict[str, Tensor]:
    """`popularity.weight` [captioned pictures, width]: the mean vector of each one's captions; `popularity.level` [1].

    The level is the median over the pictures `ordinary`. Those must not be the captioned ones: training brought these
    so near to their sentences that they are more popular than any new picture.
    """
    model.eval()
    texts = [text for found in captions.values() for text in found]
    vectors = model.embed_texts(states.means(texts))
    means = [part.mean(dim=0) for part in vectors.split([len(found) for found in captions.values()])]
    sentences = F.normalize(torch.stack(means), dim=-1)
    seen = model.embed_pictures(pictures.read_means(ordinary))
    popularity = (BETA * seen @ sentences.T).logsumexp(dim=1)
    return {"popularity.weight": sentences, "popularity.level": popularity.median()[None]}
