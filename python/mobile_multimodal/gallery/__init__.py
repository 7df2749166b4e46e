"""Finds pictures by words or by a picture: an index on disk over the embeddings of a model."""

from mobile_multimodal.gallery.embedder import Embedder
from mobile_multimodal.gallery.gallery import Gallery, GalleryStatus
from mobile_multimodal.gallery.indexing import IndexReport
from mobile_multimodal.gallery.searching import GalleryHit, SearchSettings
from mobile_multimodal.gallery.store import INDEX_NAME

__all__ = ["INDEX_NAME", "Embedder", "Gallery", "GalleryHit", "GalleryStatus", "IndexReport", "SearchSettings"]
