"""The same model behind a plain FastAPI handler: what one writes in ten minutes, without queue, batches or deadlines.

Run as `uvicorn --workers 2 plain_handler:app`. FastAPI runs a `def` handler in a pool of 40 threads; the model takes
one request at a time, as it says it does, so the others wait in the pool, and beyond it in the event loop.
"""

from __future__ import annotations

import base64
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.model.hub import DEFAULT_MODEL

app = FastAPI()
model = MobileMultiModalLLM.from_pretrained(DEFAULT_MODEL, threads=1)  # one process a CPU, as in mobile-mm serve


class Picture(BaseModel):
    """A picture in base64."""

    image: str


class Question(Picture):
    """A picture and what is asked about it."""

    question: str


@app.post("/v1/caption")
def caption(request: Picture) -> dict[str, Any]:
    return {"result": model.generate_caption(base64.b64decode(request.image)).to_dict()}


@app.post("/v1/ocr")
def read(request: Picture) -> dict[str, Any]:
    return {"result": model.extract_text(base64.b64decode(request.image)).to_dict()}


@app.post("/v1/ask")
def ask(request: Question) -> dict[str, Any]:
    return {"result": model.answer_question(base64.b64decode(request.image), request.question).to_dict()}


@app.post("/v1/embed")
def embed(request: Picture) -> dict[str, Any]:
    return {"result": {"embedding": model.embed_image(base64.b64decode(request.image)).tolist()}}


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}
