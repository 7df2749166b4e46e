"""Searches a gallery for a vector that a worker made, and makes thumbnails of what is in it."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final, NoReturn

import pybase64
from PIL import Image

from mobile_multimodal.errors import InvalidInputError, NotFoundError, UnsupportedError
from mobile_multimodal.gallery import Gallery
from mobile_multimodal.gallery.embedder import Embedder, Vector
from mobile_multimodal.gallery.searching import GalleryHit, SearchSettings
from mobile_multimodal.images import ImageSource, load_image
from mobile_multimodal.model.identity import EmbeddingIdentity
from mobile_multimodal.settings import settings_from

THUMBNAIL_SIDE: Final = 320  # twice the narrowest column of the page, for dense screens; about 15 KB each
_THUMBNAIL_QUALITY: Final = 80
_THUMBNAILS_AT_ONCE: Final = 2  # each may hold the pixels of a whole picture, up to 256 MiB


class SearchIndex:
    """A gallery that is only read. Its pictures are known by an id: their path below the folder, in base64."""

    def __init__(self, index: Path, identity: EmbeddingIdentity) -> None:
        """Opens it. Raises NotFoundError, GalleryFormatError, InvalidInputError (made with another model)."""
        self._gallery = Gallery.open(index, _IdentityAlone(identity))
        self._turns = asyncio.Semaphore(_THUMBNAILS_AT_ONCE)

    async def count(self) -> int:
        """How many pictures there are now."""
        return await asyncio.to_thread(len, self._gallery)

    async def search(self, vector: Vector, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The nearest pictures, best first: path, score, taken, thumbnail. `options` are those of SearchSettings."""
        folder = options.get("folder")
        if folder is not None and (PurePath(folder).is_absolute() or ".." in PurePath(folder).parts):
            raise InvalidInputError(f"folder is {folder!r}, expected one below the gallery's", "name it relative to it")
        settings = settings_from(SearchSettings, options)
        hits = await asyncio.to_thread(self._gallery.search_vector, vector, settings)
        return [self._shown(hit) for hit in hits]

    async def thumbnail(self, picture_id: str) -> bytes:
        """A small JPEG of a picture in the index. Raises NotFoundError for any other file, and what decoding raises."""
        async with self._turns:
            return await asyncio.to_thread(self._thumbnail, picture_id)

    def close(self) -> None:
        """Closes the index."""
        self._gallery.close()

    def _shown(self, hit: GalleryHit) -> dict[str, Any]:
        name = os.fsencode(hit.path.relative_to(self._gallery.folder))
        picture_id = pybase64.urlsafe_b64encode(name).decode("ascii").rstrip("=")
        return {
            "path": name.decode("utf-8", "replace"),
            "score": hit.score,
            "taken": hit.taken.isoformat(),
            "thumbnail": f"/v1/search/thumbnails/{picture_id}",
        }

    def _thumbnail(self, picture_id: str) -> bytes:
        try:
            name = pybase64.urlsafe_b64decode(picture_id + "=" * (-len(picture_id) % 4))
        except ValueError:
            name = b""
        # The index decides: an id that somebody made up must not open a file that merely lies in the folder.
        path = self._gallery.find(name) if name else None
        if path is None:
            raise NotFoundError("the index has no such picture", "take the address from the answer of a search")
        try:
            picture = Image.fromarray(load_image(path, model_side=THUMBNAIL_SIDE))
        except NotFoundError:
            raise NotFoundError("the file of this picture is gone", "run `mobile-mm index` again") from None
        picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_THUMBNAIL_QUALITY)
        return file.getvalue()


class _IdentityAlone(Embedder):
    """Lets the gallery check that it was made with the model that is served; vectors come from the workers."""

    def __init__(self, identity: EmbeddingIdentity) -> None:
        self._identity = identity

    @property
    def image_size(self) -> int:
        return 0

    def get_embedding_identity(self) -> EmbeddingIdentity:
        return self._identity

    def embed_image(self, image: ImageSource, /) -> Vector:
        self._refuse()

    def embed_text(self, text: str, /) -> Vector:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UnsupportedError("a server's index embeds nothing itself", "ask a worker")
